"""Plan text for reverting records of SELinux rules."""

from __future__ import annotations

from typing import Any


def context(args: dict[str, Any]) -> str:
    return f"remove the SELinux rule for {args['pattern']}"
