#!/bin/sh
# `nqr` of the package: from the sources and the Python packages below /usr/lib/nqr, with the system's Python. An installation
# has an nqr of its own in /usr/local/bin.
NQR_SOURCE_CHECKOUT=${NQR_SOURCE_CHECKOUT:-/usr/lib/nqr/tree}
export NQR_SOURCE_CHECKOUT

fail() { # code, exit code, what, cure
    printf '%s: %s\n  %s\n' "$1" "$3" "$4" >&2
    exit "$2"
}

usual=$(readlink -f /usr/bin/python3 2>/dev/null) || usual=''
for name in "${usual##*/}" python3.14 python3.13 python3.12 python3.11 python3.10; do
    python=/usr/lib/nqr/bin/$name
    # -B: dpkg and rpm know no byte code of these files, so none is written beside them.
    case $name in python3.*) [ ! -x "$python" ] || exec "$python" -I -B -m nqrust.cli "$@" ;; esac
done
fail NQR-DEP-907 3 "This host has no Python from 3.10 to 3.14 in /usr/bin." \
    "Install a package of the distribution, such as python3.11."
