"""Plan text for reverting records of roles or databases."""

from __future__ import annotations

from typing import Any


def role(args: dict[str, Any]) -> str:
    return f"drop role {args['name']}"


def access(args: dict[str, Any]) -> str:
    return f"give all roles their rights in database {args['name']} back"


def database(args: dict[str, Any]) -> str:
    return f"drop database {args['name']}"


def rules(args: dict[str, Any]) -> str:
    if args["prior"]:
        return f"give the block {args['marker']} in {args['path']} its earlier text again"
    return f"remove the block {args['marker']} from {args['path']}"
