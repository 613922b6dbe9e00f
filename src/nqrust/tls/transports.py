"""Transports of httpx that check the name in the other end's certificate, not its address: hosts move, names stay."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import httpcore
import httpx

from nqrust import loopback
from nqrust.tls.pieces import Coarse


class NamedTransport(httpx.AsyncHTTPTransport):
    """Over TLS, the other end must prove `name` (Server Name Indication, RFC 6066, and the name in its certificate)."""

    def __init__(self, name: str, context: ssl.SSLContext, socket_options: Sequence[Any] | None = None) -> None:
        super().__init__(verify=context, trust_env=False, socket_options=socket_options)
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": self._name}
        return await super().handle_async_request(request)


class BlockingNamedTransport(httpx.HTTPTransport):
    """NamedTransport for synchronous clients."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._name = name

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": self._name}
        return super().handle_request(request)


def guard(client: httpx.Client | httpx.AsyncClient) -> None:
    """Make a client of a plain address refuse to send anything to a program of another user on this machine's loopback."""
    transport = client._transport.inner if isinstance(client._transport, Coarse) else client._transport
    pool: Any = getattr(transport, "_pool", None)
    if pool is None or client.base_url.scheme != "http" or isinstance(pool._network_backend, (_Guarded, _AsyncGuarded)):
        return
    kind = _AsyncGuarded if isinstance(client, httpx.AsyncClient) else _Guarded
    pool._network_backend = kind(pool._network_backend)


class _Guarded(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        _before(host, port)
        stream = self._inner.connect_tcp(host, port, *args, **options)
        try:
            _after(stream)
        except httpcore.ConnectError:
            stream.close()
            raise
        return stream

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _AsyncGuarded(httpcore.AsyncNetworkBackend):
    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        _before(host, port)
        stream = await self._inner.connect_tcp(host, port, *args, **options)
        try:
            _after(stream)
        except httpcore.ConnectError:
            await stream.aclose()
            raise
        return stream

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def _before(host: str, port: int) -> None:
    if loopback.is_local(host):
        _check(host, port, connected=False)


def _after(stream: httpcore.NetworkStream | httpcore.AsyncNetworkStream) -> None:
    """Check the address that a name led to."""
    host, port = stream.get_extra_info("server_addr")[:2]
    if loopback.is_local(host):
        _check(host, port, connected=True)


def _check(host: str, port: int, connected: bool) -> None:
    try:
        loopback.check(host, port, connected=connected)
    except loopback.Impostor as error:
        raise httpcore.ConnectError(str(error)) from error
