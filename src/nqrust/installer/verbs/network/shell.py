"""Shell form of the records for links: an undo script's functions and calls."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from shlex import join, quote
from typing import Any

from nqrust.contract import names as product
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.network import leases
from nqrust.installer.verbs.network.giving_back import ASKS_NETWORK_MANAGER, RUNNING, programs
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.network_manager import LINKS
from nqrust.installer.verbs.shell_words import call

_FUNCTIONS = r"""remove_net_link() {
    [ -e "/sys/class/net/$1" ] || return 0
    if [ "$(cat "/sys/class/net/$1/ifalias" 2>/dev/null)" != "$2" ]; then kept "$1 is another interface now"; return 0; fi
    if has ip; then try ip link delete "$1" || missed=1; else kept "$1 goes at the next boot: the program ip is gone"; fi
}
card_files() { # lines of sha256 by nqr, sha256 before or -, path; says old, ours, or the path that somebody changed
    found=old
    while read -r ours before path; do
        now=-
        [ ! -e "$path" ] || now=$(sum "$path")
        case $now in
            "$before") ;;
            "$ours") found=ours ;;
            *) found=$path; break ;;
        esac
    done <<END
$1
END
    printf '%s\n' "$found"
}
other_port() { # bridge, card
    for port in "/sys/class/net/$1/brif"/*; do
        port=${port##*/}
        # shellcheck disable=SC2254 # they are patterns
        case $port in "$2" | \* | @LINKS@) ;; *) printf '%s\n' "$port"; return ;; esac
    done
}
addresses_of() { # its words for ip-address(8), a line each
    device=$1
    ip -o address show dev "$1" scope global 2>/dev/null | sed -e '/ temporary /d' -e 's/\\/ /g' | while read -r _ _ _ said; do
        # shellcheck disable=SC2086 # they are words
        set -- $said
        line=$1 label=
        while shift && [ $# -gt 0 ]; do
            case $1 in
                peer | brd | metric | valid_lft | preferred_lft) line="$line $1 ${2%sec}"; shift ;;
                noprefixroute) line="$line $1" ;;
                "$device":*) label=" label $1" ;;
            esac
        done
        printf '%s\n' "$line$label"
    done
}
networks_of() { # lines of -4 or -6, words for ip-route(8): routes that no gateway needs
    for family in -4 -6; do
        ip $family route show dev "$1" proto kernel 2>/dev/null |
            sed -e '/^fe80:/d' -e 's/ linkdown//' -e 's/\(expires [0-9]*\)sec/\1/' -e "s/^/$family /"
    done
}
gateways_of() { # lines of -4 or -6, gateway
    for family in -4 -6; do ip $family route show default dev "$1" 2>/dev/null | sed -n "s/.*via \([^ ]*\).*/$family \1/p"; done
}
take_card_back() { # card, bridge, lines for card_files, its programs, shell: files back, commands, what remains
    case " ${tried_card-} " in *" $1 "*) return 0 ;; esac # each attempt takes the network away
    if [ -e @GUARD@/restore ]; then
        try sh @GUARD@/restore fire || { missed=1 tried_card="${tried_card-} $1"; return 0; }
    fi
    state=$(card_files "$3")
    in=$(readlink "/sys/class/net/$1/master" 2>/dev/null)
    going=/run/nqrust-undo-$1 # a run that was cut off has begun; a boot brings the old network without it
    if [ "$state" = old ] && [ ! -e "$going" ]; then
        if [ "${in##*/}" = "$2" ]; then kept "the files of nqr are gone, so $1 stays in $2"; else sh -c "$7"; fi
        return 0
    fi
    if [ "$state" != ours ] && [ "$state" != old ]; then kept "$state was changed since, so $1 stays in $2"; return 0; fi
    if ! has ip; then kept "$1 stays in $2: the program ip is gone"; return 0; fi
    if [ ! -e "/sys/class/net/$1" ]; then kept "$1 is not there any more, so the files of $2 stay"; return 0; fi
    port=$(other_port "$2" "$1")
    if [ -n "$port" ]; then kept "$port is in $2 too, so $1 stays there"; return 0; fi
    for program in $4; do
        if ! has "$program" || { [ "$program" = nmcli ] && [ "$(@ASKS@ 2>/dev/null)" != @RUNNING@ ]; }; then
            printf '%s cannot go back to its old network: start the network manager of %s.\n' "$1" "$program" >&2
            missed=1 failed=$((failed + 1))
            return 0
        fi
    done
    printf '%s goes back to its old network now. No guard watches this; nqr uninstall has one.\n' "$1"
    trap '' HUP # a terminal that is lost meanwhile ends nothing
    had=$(addresses_of "$2") near=$(networks_of "$2") through=$(gateways_of "$2")
    : >"$going"
    if try sh -c "$5
$6"; then rm -f "$going"; else missed=1 tried_card="${tried_card-} $1"; fi
    sh -c "$7"
    waited=0
    until [ -z "$had" ] || [ -n "$(addresses_of "$1")" ] || [ "$waited" -ge 15 ]; do waited=$((waited + 1)); sleep 1; done
    if [ -z "$had" ] || [ -n "$(addresses_of "$1")" ]; then return 0; fi
    printf '%s has no address from its network manager, so it gets those of %s.\n' "$1" "$2"
    ip link set dev "$1" up
    # shellcheck disable=SC2086 # they are words
    printf '%s\n' "$had" | sed "s/ label $2:/ label $1:/" | while read -r address; do
        # Its label can be too long now.
        ip address replace $address dev "$1" 2>/dev/null || ip address replace ${address%% label *} dev "$1"
    done
    # shellcheck disable=SC2086 # they are words
    printf '%s\n' "$near" | while read -r family route; do
        [ -z "$route" ] || ip "$family" route replace $route dev "$1" proto kernel
    done
    printf '%s\n' "$through" | while read -r family gateway; do
        if [ -z "$gateway" ]; then continue; fi
        ip "$family" route replace default via "$gateway" dev "$1" 2>/dev/null ||
            ip "$family" route replace default via "$gateway" dev "$1" onlink # no address of the card is in its network
    done
}
"""
FUNCTIONS = (
    _FUNCTIONS.replace("@GUARD@", folder.FOLDER)
    .replace("@LINKS@", " | ".join(LINKS))
    .replace("@ASKS@", join(ASKS_NETWORK_MANAGER))
    .replace("@RUNNING@", RUNNING)
)


def link(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_net_link", args["name"], product.PRODUCT)


def bridge(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def addresses(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    # Only a rollback needs the whole record: in the script an older record removes the bridge.
    yield f": # {args['name']} goes"


def card(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    name, bridge = str(args["link"]), str(args["bridge"])
    files, unchanged, put_back, rest = args["files"], [], [], []
    for one in files:
        path, old = str(one["path"]), one["before"]
        if leases.is_lease(path):
            put_back.append(leases.back_in_shell(path, name, bridge))
            rest += [f"[ -e /sys/class/net/{quote(bridge)} ] || rm -f {quote(path)}"] if old is None else []
        else:
            before = "-" if old is None else hashlib.sha256(base64.b64decode(old)).hexdigest()
            unchanged.append(f"{one['sha256']} {before} {path}")
        put_back.append(f"printf %s {old} | base64 -d >{quote(path)}" if old is not None else f"rm -f {quote(path)}")
    rest += [f"rmdir {quote(str(path))} 2>/dev/null || :" for path in reversed(args.get("folders", ()))]
    load = [join(str(word) for word in argv) for argv in args["restore"]]
    words = (
        "\n".join(unchanged),
        " ".join(programs(args["restore"])),
        "\n".join(put_back),
        "\n".join(load),
        "\n".join(rest or [":"]),
    )
    yield call("take_card_back", name, bridge, *words)
