"""Shell form of the records for links: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
}
take_card_back() { # card, bridge, shell that puts the files back, shell that makes the network manager read them
    [ "$(basename "$(readlink "/sys/class/net/$1/master" 2>/dev/null)" 2>/dev/null)" = "$2" ] || return 0
    if ! has ip; then kept "$1 stays in $2: the program ip is gone"; return 0; fi
    sh -c "$3
$4" || missed=1
}
"""


def link(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_net_link", args["name"])


def bridge(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def addresses(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def card(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    files = []
    for one in args["files"]:
        path = quote(str(one["path"]))
        old = f"printf %s {one['before']} | base64 -d >{path}" if one["before"] is not None else f"rm -f {path}"
        files.append(old)
    load = [" ".join(quote(str(word)) for word in argv) + "" for argv in args["restore"]]
    yield call("take_card_back", args["link"], args["bridge"], "\n".join(files), "\n".join(load))
