"""The undo script's functions: the undo verbs in POSIX sh, with the tools of any Linux host."""

from __future__ import annotations

from nqrust.installer.verbs import cluster_data
from nqrust.installer.verbs.registry import FOLDERS

_FRAME = r"""#!/bin/sh
# Takes back what nqr installed on this host, without nqr and without Python. Run it as root; it can be repeated.
# shellcheck disable=SC2317  # not every host needs every function
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
if [ "$(id -u)" -ne 0 ]; then
    echo 'Only root can do this; nothing was changed.' >&2
    exit 2
fi
cd / || exit 1
failed=0
missed='' # set when something failed that needs a program which a package may have brought

kept() { printf 'Left on purpose: %s.\n' "$*"; }
try() {
    "$@" && return
    failed=$((failed + 1))
    printf 'Could not be undone: %s\n' "$*" >&2
    return 1
}
there() { [ -e "$1" ] || [ -L "$1" ]; }
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
has() { command -v "$1" >/dev/null 2>&1; }
with_systemd() { [ -d /run/systemd/system ] && has systemctl; }

"""

PRELUDE = _FRAME + cluster_data.FUNCTIONS + "".join(folder.shell.FUNCTIONS for folder in FOLDERS)
