#!/bin/sh
# After an uninstall: is this host as it was before? `nqr verify-clean` with every argument as given, by the bootstrap of
# install.sh, in a folder of its own that is gone again at the end.
set -eu
umask 022

cache=$(mktemp -d)
trap 'rm -rf -- "$cache"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
code=0
NQR_VERB=verify-clean NQR_CACHE_DIR=$cache sh "$(dirname -- "$(readlink -f -- "$0")")/install.sh" "$@" || code=$?
exit $code
