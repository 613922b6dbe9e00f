"""What reverting a record of sysctls or modules does, in words: for plans, which show it before it is done."""

from __future__ import annotations

from typing import Any


def sysctl(args: dict[str, Any]) -> str:
    return f"set {args['key']} to {args['prior']} again"


def module(args: dict[str, Any]) -> str:
    return f"unload module {args['name']}"
