#!/bin/sh
# `nqr bundle build` with every argument as given, by the bootstrap of install.sh: the installed nqr has no build tools.
set -eu
umask 022

NQR_VERB=bundle exec "$(dirname -- "$(readlink -f -- "$0")")/install.sh" build "$@"
