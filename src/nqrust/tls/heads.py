"""Headers of answers to asynchronous clients of httpx, looked at before httpcore takes them.

httpcore passes over answers before the answer (1xx; RFC 9110, 15.2) without end, and nothing else runs while it does that with
what has arrived. A header of 100 KiB can have 25,000 lines.
"""

from __future__ import annotations

import httpcore

from nqrust.tls import through

LINES = 256
"""Of the header of an answer."""
INTERIM = 16
"""Answers before the answer."""
_LONGEST = 128 * 1024
"""Bytes of all of them. httpcore itself ends at 100 KiB for one."""


class Head:
    """Counts the lines of an answer's header as they come."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Expect a new answer."""
        self._rest, self._lines, self._bytes, self._interim = b"", 0, 0, 0
        self._passed_over = self._over = False

    def see(self, data: bytes) -> None:
        """Raises httpcore.ReadError."""
        if self._over:
            return
        self._bytes += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r"))
            if self._over:
                return
        if self._bytes > _LONGEST:
            raise httpcore.ReadError(f"the server sends a header of more than {_LONGEST >> 10} KiB")

    def _take(self, line: bytes) -> None:
        if not self._lines:
            status = line.split(b" ", 2)[1:2]
            self._passed_over = status != [b"101"] and [one[:1] for one in status] == [b"1"]
        self._lines += 1
        if self._lines > LINES:
            raise httpcore.ReadError(f"the server sends a header of more than {LINES} lines")
        if line:
            return
        self._lines = 0
        self._interim += 1
        self._over = not self._passed_over
        if self._interim > INTERIM:
            raise httpcore.ReadError(f"the server sends more than {INTERIM} answers before its answer")


class _Stream(through.Through):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        super().__init__(inner)
        self._head = Head()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await super().read(max_bytes, timeout)
        self._head.see(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head.begin()
        await super().write(buffer, timeout)


class Backend(through.Backend):
    """For the connections of a pool of httpcore."""

    stream = _Stream
