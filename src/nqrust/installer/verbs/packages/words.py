"""What reverting a record of packages does, in words: for plans, which show it before it is done."""

from __future__ import annotations

from typing import Any


def packages(args: dict[str, Any]) -> str:
    return "remove packages"
