"""Shell form of the records for links: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
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
