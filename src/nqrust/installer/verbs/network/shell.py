"""Shell form of the records for links: an undo script's functions and calls."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from shlex import quote
from typing import Any

from nqrust.contract import names as product
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.network.undo import LEASES
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if [ "$(cat "/sys/class/net/$1/ifalias" 2>/dev/null)" != "$2" ]; then kept "$1 is another interface now"; return 0; fi
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
}
card_file_changed() { # lines of sha256 by nqr, sha256 before or -, path
    while read -r ours before path; do
        [ -e "$path" ] || continue
        case $(sum "$path") in "$ours" | "$before") ;; *) return 0 ;; esac
    done <<END
$1
END
    return 1
}
take_card_back() { # card, bridge, lines for card_file_changed, shell that puts the files back, the manager's commands
    [ "$(basename "$(readlink "/sys/class/net/$1/master" 2>/dev/null)" 2>/dev/null)" = "$2" ] || return 0
    if ! has ip; then kept "$1 stays in $2: the program ip is gone"; return 0; fi
    if card_file_changed "$3"; then kept "$1 stays in $2: a file of its network was changed since"; return 0; fi
    printf '%s goes back to its old network now. No guard watches this; nqr uninstall has one.\n' "$1"
    trap '' HUP # a terminal that is lost meanwhile ends nothing
    try sh -c "$4
$5" || missed=1
}
"""


def link(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_net_link", args["name"], product.PRODUCT)


def bridge(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def addresses(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def card(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    unchanged, files = [], []
    for one in args["files"]:
        path, old = quote(str(one["path"])), one["before"]
        if not str(one["path"]).startswith(LEASES):
            before = "-" if old is None else hashlib.sha256(base64.b64decode(old)).hexdigest()
            unchanged.append(f"{one['sha256']} {before} {one['path']}")
        files.append(f"printf %s {old} | base64 -d >{path}" if old is not None else f"rm -f {path}")
    files += [f"rmdir {quote(str(path))} 2>/dev/null || :" for path in reversed(args.get("folders", ()))]
    load = [" ".join(quote(str(word)) for word in argv) for argv in args["restore"]]
    words = ("\n".join(part) for part in (unchanged, files, load))
    yield call("take_card_back", args["link"], args["bridge"], *words)
