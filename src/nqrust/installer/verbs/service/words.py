"""Plan text for reverting records of units, supervisord or VMs."""

from __future__ import annotations

from typing import Any


def unit(args: dict[str, Any]) -> str:
    if args["active"]:
        return f"restart unit {args['name']} as it was before"
    return f"stop unit {args['name']}" if args["enabled"] else f"remove unit {args['name']}"


def supervisord(args: dict[str, Any]) -> str:
    return "end supervisord"


def vms(args: dict[str, Any]) -> str:
    return "end every VM of this host"
