"""How a long step tells what it is doing: a short line, and how far it is (0 to 1) where that is known."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, "float | None"], None]


def silent(text: str, fraction: float | None) -> None:
    """Progress that nobody listens to."""
