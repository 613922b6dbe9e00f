"""Small frames of a WebSocket, which wait once there are many.

A frame can have two bytes (RFC 6455, 5.2), and takes 5 µs. A ping is answered, too. All that has arrived is taken before anything
else of the program runs. One client kept a server busy that way with 1 MB a second, and a host that somebody took over the manager.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

SMALL = 128
"""Bytes that a frame has on average to need no pause."""
_PIECE = 1024


class _Gate:
    """A transport whose reading pauses while its protocol or its frames want that."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self._paused = self._held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pause_reading(self) -> None:
        self._paused = True
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._go_on()

    def hold(self, held: bool) -> None:
        if held and not self._held:
            self._inner.pause_reading()
        self._held = held
        self._go_on()

    def _go_on(self) -> None:
        if not (self._paused or self._held or self._inner.is_closing()):
            self._inner.resume_reading()


class Frames:
    """The bytes of one connection that wait. `take` parses some bytes and returns the number of their frames.
    `at_once`: small frames in a row. `seconds`: until one more."""

    def __init__(self, take: Callable[[bytes], int], at_once: int, seconds: float) -> None:
        self._take, self._at_once, self._seconds = take, at_once, seconds
        self._left = bytearray()
        self._later: asyncio.TimerHandle | None = None
        self._turn = 0.0

    def of(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """Return the transport for the protocol."""
        self._gate = _Gate(cast(asyncio.Transport, transport))
        return cast(asyncio.Transport, self._gate)

    def feed(self, data: bytes) -> None:
        self._left += data
        if self._later is None:
            self._go_on()

    def end(self) -> None:
        """Forget what was not parsed: the connection is gone."""
        self._left.clear()
        if self._later is not None:
            self._later.cancel()

    def _go_on(self) -> None:
        self._later = None
        while self._left and self._later is None:
            piece = bytes(self._left[:_PIECE])
            del self._left[:_PIECE]
            wait = self._wait(self._take(piece) - len(piece) / SMALL)
            if self._gate.is_closing():
                self._left.clear()
            elif wait > 0:
                self._later = asyncio.get_running_loop().call_later(wait, self._go_on)
        self._gate.hold(self._later is not None)

    def _wait(self, more: float) -> float:
        """Count small frames and return the seconds until the turn of the next ones."""
        now = time.monotonic()
        self._turn = max(self._turn, now - self._at_once * self._seconds) + max(more, 0.0) * self._seconds
        return self._turn - now
