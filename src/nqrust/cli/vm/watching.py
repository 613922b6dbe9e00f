"""nqr vm ls --watch: the list again and again, until a signal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from nqrust.cli import outlet, stopping
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")
Watch = Annotated[
    bool, typer.Option("-w", "--watch", help="Show the list again when it changes, until Ctrl-C.", show_default=False)
]
_EVERY = 2.0  # seconds
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"
"""Home, then erase the screen and what scrolled off it (ECMA-48, xterm)."""


def refuse_documents(out: str) -> None:
    """Raise UsageError NQR-USE-003 for a format with one document."""
    if out in ("json", "yaml"):
        raise UsageError("NQR-USE-003", f"--watch and --output {out} exclude each other.", "Use text, wide or name.")


def watch(ask: Callable[[], T], show: Callable[[T], None]) -> None:
    """Show each answer that differs from the one before it. A signal ends this with exit code 130."""
    before: T | None = None
    with stopping.is_the_end(), outlet.follows():
        while True:
            now = ask()
            if now != before:
                _separate(before is None)
                show(now)
                sys.stdout.flush()
            before = now
            time.sleep(_EVERY)


def _separate(first: bool) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(_CLEAR)
    elif not first:
        typer.echo("")
