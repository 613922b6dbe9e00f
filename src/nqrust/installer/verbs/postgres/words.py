"""What reverting a record of roles or databases does, in words: for plans, which show it before it is done."""

from __future__ import annotations

from typing import Any


def role(args: dict[str, Any]) -> str:
    return f"drop role {args['name']}"


def database(args: dict[str, Any]) -> str:
    return f"drop database {args['name']}"
