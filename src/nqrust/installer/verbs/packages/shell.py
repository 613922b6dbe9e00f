"""Shell form of the record for packages: functions that remove them and their scripts' files, and the calls."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterator
from shlex import quote
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.shell import content
from nqrust.installer.verbs.packages import spared, traces, undo, units
from nqrust.installer.verbs.packages.registry import MANAGERS, of_record
from nqrust.installer.verbs.shell_words import call

_TRACES = r"""made_directory() { # path: goes when it is empty and no package has it
    [ -d "$1" ] || return 0
    if owned "$1"; then return; fi
    (enter "${1%/*}" && made_below "${1##*/}" LEVELS)
    [ ! -d "$1" ] || kept "$1 was made by a package script. It is not empty, or cannot be removed"
}
made_below() { # entry of the folder that one is in, levels: goes with its empty folders and torn clusters; other clusters stay whole
    [ -d "./$1" ] && [ ! -L "./$1" ] || return 0
    if there "./$1/PG_VERSION"; then
        if torn_cluster "./$1"; then wipe "$1"; fi
        return
    fi
    [ "$2" = 0 ] || (
        step_in "$1" || exit
        for below in ./* ./.[!.]* ./..?*; do made_below "${below#./}" $(($2 - 1)); done
    )
    rmdir -- "./$1" 2>/dev/null
}
made_file() { # path, sha256
    if [ ! -f "$1" ] || owned "$1"; then return; fi
    if [ "$(sum "$1")" = "$2" ]; then try delete "$1"; else kept "$1 was made by a package script and changed since"; fi
}
made_link() { # path, target
    if [ ! -L "$1" ] || owned "$1"; then return; fi
    if [ "$(readlink -- "$1")" = "$2" ]; then try delete "$1"; else kept "$1 was made by a package script and changed since"; fi
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
            try delete "$path"
        fi
    done
    watched=''
}
present_of() { # package manager, packages: those that are there, also in part
    which=$1
    shift
    for package in "$@"; do
        state_of "$which" "$package"
        case $state in '' | not-installed) ;; *) printf ' %s' "$package" ;; esac
    done
}
without() { # packages, those of them that are left out
    for package in $1; do
        case " $2 " in *" $package "*) ;; *) printf ' %s' "$package" ;; esac
    done
}
"""

_PURGE = r"""clusters='' # patterns of the usual data folders of the PostgreSQL servers that go
goes() { # usual data folder: whether that cluster goes
    set -f
    for pattern in $clusters; do
        # shellcheck disable=SC2254  # a pattern
        case $1 in $pattern)
            set +f
            return
            ;;
        esac
    done
    set +f
    return 1
}
clusters_of() { # what prints a line about each cluster that goes
    for conf in /etc/postgresql/*/*/postgresql.conf ''; do
        case $conf in *'/*/'*) continue ;; esac
        cluster_of "$conf"
        if goes "$place"; then "$@"; fi
    done
}
its_data() { printf '%s\n' "$data"; }
its_data_is_away() {
    if away_cluster; then printf '%s\n' "the cluster of $conf has no data in $data now"; fi
}
data_of_others() { # those that hold data of users, wherever they are
    {
        for folder in $clusters; do printf '%s\n' "$folder"; done
        clusters_of its_data
    } | sort -u | while read -r folder; do
        if used_cluster "$folder"; then printf '%s\n' "$folder"; fi
    done
}
configured='' # packages of which only the configuration was there before; it stays
purge() { # package manager, packages; 1 when some stay because others need them by now, with all that those need
    manager=$1
    shift
    present=$(present_of "$manager" "$@")
    [ -n "$present" ] || return 0
    if [ -n "$missed" ]; then
        try false "packages stay until what could not be undone above, which may need their programs, is undone"
        return 1
    fi
    theirs=$(data_of_others)
    [ -z "$theirs" ] || {
        cluster_stays "$theirs"
        return 1
    }
    theirs=$(clusters_of its_data_is_away | head -n 1)
    [ -z "$theirs" ] || {
        try false "PostgreSQL stays: $theirs. Mount its data or remove that cluster, then run this again"
        return 1
    }
    stay=''
    remove_with "$manager" || return 1
    [ -z "$stay" ] || {
        kept "packages that others need now:$stay"
        return 1
    }
}
"""


def _by_manager(name: str, what: str, arms: dict[str, str]) -> str:
    """Return a shell function with one arm for each package manager, selected by its first argument."""
    cases = "".join(f"        {manager}) {body} ;;\n" for manager, body in arms.items())
    return f"{name}() {{ # package manager{what}\n    case $1 in\n{cases}    esac\n}}\n"


def functions() -> str:
    """Return all functions for packages. Manager-specific ones come last; a host may have several managers."""
    forms = {name: manager.shell for name, manager in MANAGERS.items()}
    owned = "".join(f"    if {form.owns}; then return; fi\n" for form in forms.values())
    return (
        _TRACES.replace("LEVELS", str(traces.LEVELS))
        + _PURGE
        + units.FUNCTIONS
        + f"owned() {{ # path: whether a package has it\n{owned}    return 1\n}}\n"
        + _by_manager("state_of", ", $package: leaves $state", {name: form.state for name, form in forms.items()})
        + _by_manager("remove_with", ": $present; leaves $stay", {name: form.remove for name, form in forms.items()})
        + "".join(form.functions for form in forms.values())
    )


FUNCTIONS = functions()


def packages(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    host, manager = context.host, of_record(args)
    plain = manager.removing.plain(host)
    going, staying = undo.victims(host, args, context.needed_packages)
    going -= set(map(plain, undo.brought_by(context.older)))
    made = undo.known_traces(context.originals, args)
    cut_off = made is None
    if made is None:
        made = undo.made_now(context, args)
    spare = undo.spared_now(context, args, going)
    yield f"configured={quote(' '.join(sorted(going & undo.configured_before(host, args))))}"
    yield f"clusters={quote(' '.join(sorted({*undo.servers_of(context, args, going).values()})))}"
    if cut_off and (paths := undo.still_to_be_made(context, args)):
        yield call("watch", *paths)
    yield f"if {call('purge', manager.name, *sorted(going))}; then"
    failed = units.patterns(manager.removing.listed(host, going))
    yield f"    {call('forget_units', *failed) if failed else ':'}"
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
