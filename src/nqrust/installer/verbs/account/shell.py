"""Shell form of the records for users and groups: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_user() { # name; it leaves a primary group of the same name first, which userdel(8) would take along
    grep -q "^$1:" /etc/passwd || return 0
    if owns_what_stays "$1"; then
        kept "user $1, because files that stay are its"
        return
    fi
    if grep -q "^$1:[^:]*:$(id -g -- "$1"):" /etc/group; then
        for other in nogroup nobody root; do ! grep -q "^$other:" /etc/group || break; done
        try usermod --gid "$other" --home /nonexistent "$1" || return
    fi
    try userdel "$1"
}
owns_what_stays() { # user; the next account could get its number
    printf '%s\n' "$staying" | while IFS= read -r one; do
        [ -z "$one" ] || ! there "$one" || find "$one" -user "$1" -print -quit
    done | grep -q .
}
remove_group() {
    grep -q "^$1:" /etc/group || return 0
    groupdel "$1" 2>/dev/null || kept "group $1 is the primary group of a user that stays"
}
remove_member() { # group, user
    if grep "^$1:" /etc/group | cut -d : -f 4 | tr , '\n' | grep -qx -- "$2"; then try gpasswd --delete "$2" "$1" >/dev/null; fi
}
"""


def user(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_user", args["name"])


def group(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_group", args["name"])


def member(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_member", args["group"], args["user"])
