"""Plan text for reverting records of firewall rules."""

from __future__ import annotations

from typing import Any


def rules(args: dict[str, Any]) -> str:
    return "remove the firewall chains " + ", ".join(chain for _, chain in args["chains"]) + _family(args)


def ruleset(args: dict[str, Any]) -> str:
    return "fill the firewall chains as they were before" + _family(args)


def zone(args: dict[str, Any]) -> str:
    return f"take {args['bridge']} out of firewalld"


def bridge_table(args: dict[str, Any]) -> str:
    return f"remove the nftables table bridge {args['name']}"


def _family(args: dict[str, Any]) -> str:
    return " for IPv6" if args["binary"] == "ip6tables" else ""
