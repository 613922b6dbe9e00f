"""A signal that arrives while a command waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.cli.signals import Stopped
from nqrust.installer.engine.errors import Interrupted

_CODE = 130


@contextmanager
def is_the_end() -> Iterator[None]:
    """End without a word at a signal, with exit code 130: the way out of a command that shows what happens until then."""
    try:
        yield
    except Stopped:
        raise SystemExit(_CODE) from None


@contextmanager
def told(goes_on: str, next_command: str) -> Iterator[None]:
    """Turn a signal during a wait into Interrupted NQR-USE-017. `goes_on`: what the manager completes anyway, as a sentence;
    `next_command`: shows the result."""
    try:
        yield
    except Stopped as stopped:
        raise Interrupted("NQR-USE-017", f"Stopped by {stopped}. {goes_on}", f"Look at it with: {next_command}") from None
