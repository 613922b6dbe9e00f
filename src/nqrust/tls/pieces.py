"""Answers to asynchronous clients of httpx that come in crumbs: they end, and others get their turn meanwhile.

A chunk of an answer can have one byte (RFC 9112, 7.1), and so can a record of TLS. Each takes 60 µs, and all that has arrived is
taken before anything else of the program runs. A registry, or a host that somebody took over, kept the manager busy that way for as
long as it sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from nqrust.tls.heads import Backend

SMALLEST = 256
"""Bytes that a piece of an answer has on average."""
_FREE = 2048
"""Pieces of any size at the beginning of an answer."""
_IN_A_ROW = 16


class Coarse(httpx.AsyncBaseTransport):
    """A transport that raises ReadError for an answer in crumbs, and for a header without end."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        pool: Any = getattr(inner, "_pool", None)
        if pool is not None and not isinstance(pool._network_backend, Backend):
            pool._network_backend = Backend(pool._network_backend)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        answer.stream = _Pieces(answer.stream)
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio  # Commands at a prompt load this module, and have no use for it.

        pieces, size = 0, 0
        async for piece in self._inner:
            pieces, size = pieces + 1, size + len(piece)
            if pieces % _IN_A_ROW == 0:
                await asyncio.sleep(0)
            if pieces > _FREE and size < pieces * SMALLEST:
                raise httpx.ReadError(f"the server sends its answer in pieces of {size // pieces} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
