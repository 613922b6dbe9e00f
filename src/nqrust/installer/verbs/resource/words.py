"""Plan text for reverting records of a resource."""

from __future__ import annotations

from typing import Any


def resource(args: dict[str, Any]) -> str:
    return f"remove {args['url']}"
