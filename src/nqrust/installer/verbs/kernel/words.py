"""Plan text for reverting records of sysctls or modules."""

from __future__ import annotations

from typing import Any


def sysctl(args: dict[str, Any]) -> str:
    return f"set {args['key']} to {args['prior']} again"


def module(args: dict[str, Any]) -> str:
    return f"unload module {args['name']}"
