"""What reverting a record of a resource does, in words: for plans, which show it before it is done."""

from __future__ import annotations

from typing import Any


def resource(args: dict[str, Any]) -> str:
    return f"remove {args['url']}"
