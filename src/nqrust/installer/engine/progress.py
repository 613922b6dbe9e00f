"""Progress of a long step: a short line, and a fraction (0 to 1) if known."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, "float | None"], None]


def silent(text: str, fraction: float | None) -> None:
    """Discard progress."""
