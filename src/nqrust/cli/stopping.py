"""A signal that arrives while a command waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.installer.engine.errors import Interrupted


class Stopped(BaseException):
    """A signal arrived before the first change, or during a wait. Operations install their own handlers."""


@contextmanager
def told(goes_on: str, next_command: str) -> Iterator[None]:
    """Turn a signal during a wait into Interrupted NQR-USE-017. `goes_on`: what the manager completes anyway, as a sentence;
    `next_command`: shows the result."""
    try:
        yield
    except Stopped as stopped:
        raise Interrupted("NQR-USE-017", f"Stopped by {stopped}. {goes_on}", f"Look at it with: {next_command}") from None
