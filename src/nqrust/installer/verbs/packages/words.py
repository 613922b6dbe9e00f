"""Plan text for reverting records of packages."""

from __future__ import annotations

from typing import Any


def packages(args: dict[str, Any]) -> str:
    return "remove packages"
