"""Connections of httpx to servers of strangers: they end when the other side only drips, or sends crumbs.

A timeout of httpx begins again with each byte. So a header or a body that comes byte by byte would hold its reader for days.
"""

from __future__ import annotations

import ssl
import time
from typing import Any, TypeVar

import httpcore
import httpx

from nqrust.tls import through
from nqrust.tls.pieces import Coarse

SLOWEST, PATIENCE = 1024, 60.0
"""A server that sends fewer bytes a second, over so many seconds of waiting, counts as stalled."""


_Client = TypeVar("_Client", httpx.Client, httpx.AsyncClient)


def patient(client: _Client) -> _Client:
    """Return the client. All its connections raise ReadTimeout for a server that only drips, also through a proxy. Those of an
    asynchronous client raise ReadError for crumbs."""
    kind = _AsyncBackend if isinstance(client, httpx.AsyncClient) else _Backend
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = kind(pool._network_backend)
    if isinstance(client, httpx.AsyncClient):
        client._transport = Coarse(client._transport)
        client._mounts = {key: one and Coarse(one) for key, one in client._mounts.items()}
    return client


class _Pace:
    """Counts bytes, and the time that they took, since the last request or the last full measure."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._waited, self._came = 0.0, 0

    def left(self, timeout: float | None) -> float:
        left = max(PATIENCE - self._waited, 0.001)
        return left if timeout is None else min(timeout, left)

    def came(self, count: int, since: float) -> None:
        self._waited, self._came = self._waited + time.monotonic() - since, self._came + count
        if self._came >= SLOWEST * PATIENCE:
            self.begin()
        elif self._waited >= PATIENCE:
            raise httpcore.ReadTimeout(f"the server sent only {self._came} bytes in {PATIENCE:g} s")


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner, self._pace = inner, _Pace()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        since = time.monotonic()
        data = self._inner.read(max_bytes, self._pace.left(timeout))
        self._pace.came(len(data), since)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._pace.begin()
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _AsyncStream(through.Through):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        super().__init__(inner)
        self._pace = _Pace()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        since = time.monotonic()
        data = await super().read(max_bytes, self._pace.left(timeout))
        self._pace.came(len(data), since)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._pace.begin()
        await super().write(buffer, timeout)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(host, port, *args, **options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _AsyncBackend(through.Backend):
    stream = _AsyncStream
