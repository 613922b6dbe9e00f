"""Shell form of the records for firewall rules: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = r"""remove_rule() { # program, table, chain, specification
    program=$1 table=$2
    shift 2
    has "$program" || return 0
    while "$program" -w -t "$table" -C "$@" 2>/dev/null; do try "$program" -w -t "$table" -D "$@" || { missed=1; return; }; done
}
remove_chain() { # program, table, chain
    has "$1" && "$1" -w -t "$2" -S "$3" >/dev/null 2>&1 || return 0
    try "$1" -w -t "$2" -F "$3" || missed=1
    try "$1" -w -t "$2" -X "$3" || missed=1
}
zone_settings() { # --permanent, or nothing for what holds now
    for what in --list-all-zones --list-all-policies; do
        firewall-cmd "$@" "$what" 2>/dev/null | grep -v '^  interfaces:' | sed -e 's/ (.*//' -e '/^nqrust-vms/,/^$/d'
    done
    for what in --get-all-chains --get-all-rules --get-all-passthroughs; do firewall-cmd "$@" --direct "$what" 2>/dev/null; done
    for name in $(firewall-cmd "$@" --get-ipsets 2>/dev/null); do
        echo "$name"
        firewall-cmd "$@" "--info-ipset=$name" 2>/dev/null | sed 's/ (.*//'
    done
}
forget_zone() { # bridge
    has firewall-cmd && firewall-cmd --state >/dev/null 2>&1 || return 0
    if [ "$(zone_settings)" = "$(zone_settings --permanent)" ]; then
        try firewall-cmd --quiet --reload
    else
        firewall-cmd --quiet --zone=nqrust-vms --remove-interface="$1" 2>/dev/null
        kept 'firewalld has the empty zone nqrust-vms until its next reload, which would drop settings now'
    fi
}
remove_bridge_table() {
    if ! has nft; then kept "the nftables table bridge $1 goes at the next boot: the program nft is gone"; return; fi
    nft list table bridge "$1" >/dev/null 2>&1 || return 0
    try nft delete table bridge "$1" || missed=1
}
"""


def bridge_table(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("remove_bridge_table", args["name"])


def rules(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    for rule in args["rules"]:
        yield call("remove_rule", args["binary"], *rule)
    for chain in args["chains"]:
        yield call("remove_chain", args["binary"], *chain)


def ruleset(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    """Yield the calls that remove the chains of one rule change. Chains of earlier changes have their own undo record."""
    binary = str(args["binary"])
    for table, parent, _, *jump in args["added"]:
        yield call("remove_rule", binary, table, parent, *jump)
    for table, _, chain, *_ in args["added"]:
        yield call("remove_chain", binary, table, chain)


def zone(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("forget_zone", args["bridge"])
