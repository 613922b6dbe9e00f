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

# A user who may change a folder may put a link there at any moment, so a removal or a change of owner begins inside of it.
roots() { # entry of the folder that one is in: whether root alone can replace it
    case $(stat -c '%u %A' .) in
        '0 d'????-??-?) ;;
        '0 d'*[tT]) [ "$(stat -c %u -- "./$1" 2>/dev/null)" = 0 ] ;;
        *) return 1 ;;
    esac
}
here() { # leaves $here: the folder that one is in, with a slash at its end, for a name may end in a line break
    here=$(readlink -n /proc/self/cwd && echo /)
    [ "$here" != // ] || here=/
}
step_in() { # entry of the folder that one is in: goes there, unless it is a link
    here
    next=$here$1/
    cd -P -- "./$1" 2>/dev/null && here && [ "$here" = "$next" ]
}
enter() { # folder: goes there, for a subshell; through a link only where root alone can have put it
    cd / || return 1
    ahead=$1/
    alone=1
    links=0
    while [ -n "$ahead" ]; do
        part=${ahead%%/*}
        ahead=${ahead#*/}
        case $part in '' | .) continue ;; esac
        [ -z "$alone" ] || roots "$part" || alone=''
        if [ -z "$alone" ]; then
            if [ -L "./$part" ]; then
                printf '%s: a link that another user than root may have put on the way\n' "$1" >&2
                return 1
            fi
            step_in "$part" || return 1
        elif [ -L "./$part" ]; then
            links=$((links + 1))
            [ "$links" -le 40 ] || return 1
            link=$(readlink -- "./$part") || return 1
            case $link in /*) cd / || return 1 ;; esac
            ahead=$link/$ahead
        else
            cd -P -- "./$part" 2>/dev/null || return 1
        fi
    done
}
wipe() { # entry of the folder that one is in: removes it with its content, unless something is mounted there
    here
    if top=$here$1 awk '{ at = $5; gsub(/\\040/, " ", at) } at == ENVIRON["top"] || index(at, ENVIRON["top"] "/") == 1 { found = 1 }
        END { exit !found }' /proc/self/mountinfo; then
        printf '%s: something is mounted there\n' "$here$1" >&2
        return 1
    fi
    rm -rf -- "./$1"
}
delete() ( enter "${1%/*}" && rm -f -- "./${1##*/}" )
delete_tree() ( enter "${1%/*}" && wipe "${1##*/}" )

"""

PRELUDE = _FRAME + cluster_data.FUNCTIONS + "".join(folder.shell.FUNCTIONS for folder in FOLDERS)
