"""Plan text for reverting records of users or groups."""

from __future__ import annotations

from typing import Any


def user(args: dict[str, Any]) -> str:
    return f"remove user {args['name']}"


def group(args: dict[str, Any]) -> str:
    return f"remove group {args['name']}"


def member(args: dict[str, Any]) -> str:
    return f"remove {args['user']} from group {args['group']}"
