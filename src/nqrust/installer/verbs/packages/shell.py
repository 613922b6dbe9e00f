"""Shell form of the record for packages: the functions that take them back, with what their scripts made, and the calls."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterator
from shlex import quote
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.shell import content
from nqrust.installer.verbs.packages import spared, undo
from nqrust.installer.verbs.packages.apt import shell as apt
from nqrust.installer.verbs.packages.dnf import shell as dnf
from nqrust.installer.verbs.packages.registry import REMOVERS
from nqrust.installer.verbs.shell_words import call

_TRACES = r"""made_directory() { # path: goes when it is empty and no package has it
    [ -d "$1" ] || return 0
    if owned "$1"; then return; fi
    find "$1" -depth -type d -exec rmdir -- {} + 2>/dev/null
    [ ! -d "$1" ] || kept "$1 was made by a package script and is not empty"
}
made_file() { # path, sha256
    if [ ! -f "$1" ] || owned "$1"; then return; fi
    if [ "$(sum "$1")" = "$2" ]; then try rm -f -- "$1"; else kept "$1 was made by a package script and changed since"; fi
}
made_link() { # path, target
    if [ ! -L "$1" ] || owned "$1"; then return; fi
    if [ "$(readlink -- "$1")" = "$2" ]; then try rm -f -- "$1"; else kept "$1 was made by a package script and changed since"; fi
}
watched=''
watch() { # paths that scripts of a transaction that was cut off may still make
    watched=''
    for path in "$@"; do there "$path" || watched="$watched $path"; done
}
made_meanwhile() { # what has come of them
    for path in $watched; do
        if ! there "$path" || owned "$path"; then
            continue
        elif [ -d "$path" ] && [ ! -L "$path" ]; then
            made_directory "$path"
        else
            try rm -f -- "$path"
        fi
    done
    watched=''
}
owned() { # a host may have the programs of both package managers
    if has dpkg-query && dpkg-query --search "$1" >/dev/null 2>&1; then return; fi
    has rpm && rpm -qf "$1" >/dev/null 2>&1
}
present_of() { # package manager, packages: those that are there, also in part
    which=$1
    shift
    for package in "$@"; do
        case $which in
            apt) state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state='' ;;
            *) if rpm -q "$package" >/dev/null 2>&1; then state=installed; else state=''; fi ;;
        esac
        case $state in '' | not-installed) ;; *) printf ' %s' "$package" ;; esac
    done
}
without() { # packages, those of them that are left out
    for package in $1; do
        case " $2 " in *" $package "*) ;; *) printf ' %s' "$package" ;; esac
    done
}
"""

_PURGE = r"""data_of_others() { # server packages that go: data folders that go with them and hold databases or tables of users
    for package in "$@"; do
        case ${package%%:*} in
        postgresql-common) version='*' ;;
        postgresql-*[!0-9]* | postgresql-) continue ;;
        postgresql-*) version=$(printf '%s' "${package%%:*}" | cut -c 12-) ;;
        *) continue ;;
        esac
        # shellcheck disable=SC2231  # the version can be a pattern
        for base in /var/lib/postgresql/$version/*/base; do
            [ -e "${base%/base}/PG_VERSION" ] || continue
            # What users make has numbers from 16384 on.
            { ls "$base" && ls "$base"/*; } 2>/dev/null | sed -n 's/^\([0-9]\{5,\}\).*/\1/p' | while read -r number; do
                [ "$number" -lt 16384 ] || echo found
            done | grep -q found && printf '%s\n' "${base%/base}"
        done
    done | sort -u
}
configured='' # packages of which only the configuration was there before; it stays
purge() { # package manager, packages; 1 when some stay because others need them by now, with all that those need
    manager=$1
    shift
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    SUDO_FORCE_REMOVE=yes # its prerm refuses while root's password is locked; only a sudo that was not there before goes
    export DEBIAN_FRONTEND NEEDRESTART_SUSPEND SUDO_FORCE_REMOVE
    present=$(present_of "$manager" "$@")
    [ -n "$present" ] || return 0
    if [ -n "$missed" ]; then
        try false "packages stay until what could not be undone above, which may need their programs, is undone"
        return 1
    fi
    # shellcheck disable=SC2086  # a list of names
    theirs=$(data_of_others $present)
    [ -z "$theirs" ] || {
        try false "PostgreSQL stays: $theirs holds data that nqr did not create. Move or drop it, then run this again"
        return 1
    }
    stay=''
    if [ "$manager" = apt ]; then purge_debs; else remove_rpms; fi || return 1
    [ -z "$stay" ] || {
        kept "packages that others need now:$stay"
        return 1
    }
}
"""

FUNCTIONS = _TRACES + apt.DEPENDENTS + _PURGE + dnf.REMOVAL + apt.REMOVAL


def packages(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    host, manager = context.host, str(args["manager"])
    going, staying = undo.victims(host, args, context.needed_packages)
    going -= set(map(REMOVERS[manager].plain(host), undo.brought_by(context.older)))
    made = undo.known_traces(context.originals, args)
    cut_off = made is None
    if made is None:
        made = undo.made_now(context, args)
    spare = undo.spared_now(context, args, going)
    yield f"configured={quote(' '.join(sorted(going & undo.configured_before(host, args))))}"
    if cut_off and (paths := undo.still_to_be_made(context, args)):
        yield call("watch", *paths)
    yield f"if {call('purge', manager, *sorted(going))}; then"
    yield "    :"
    if not staying:
        yield from (f"    {line}" for line in _traces(made, args.get("residue") or {}))
        yield "    made_meanwhile"
    yield "fi"
    yield from _traces(undo.leftovers(context, args), {})
    for path, row in spare.items():
        if "folder" in row:
            mode, owner, group = row["folder"]
            yield call("put_directory", posixpath.dirname(path), f"{mode:04o}", owner, group)
        yield f"if ! {call('there', path)}; then"
        yield from _copy(path, row)
        yield "fi"
        for name, known in row.get("beside", {}).items():
            yield call("drop_copy", name, known, path, spared.digest(row))
    if manager == "apt":
        plain = REMOVERS[manager].plain(host)
        before, manual = (" ".join(sorted(map(plain, args[key]))) for key in ("before", "manual"))
        yield call("restore_marks", before, manual)


def _copy(path: str, row: dict[str, Any]) -> Iterator[str]:
    if "target" in row:
        yield call("put_link", path, "", row["target"])
    else:
        yield from content(path, "", spared.digest(row), row, base64.b64decode(row["content"]))


def _traces(made: dict[str, Any], residue: dict[str, Any]) -> Iterator[str]:
    for path, row in sorted(made["paths"].items(), reverse=True):
        if row[0] == "symlink":
            yield call("made_link", path, row[1])
        elif row[0] == "directory":
            yield call("made_directory", path)
        elif row[0] == "file" and " " not in row[1]:
            yield call("made_file", path, row[1])
    for name in dict.fromkeys([*made["users"], *residue.get("users", [])]):
        yield call("remove_user", name)
    for name in dict.fromkeys([*made["groups"], *residue.get("groups", [])]):
        yield call("remove_group", name)
