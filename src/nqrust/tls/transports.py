"""Transports of httpx that check the name in the other end's certificate, not its address: hosts move, names stay."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import httpx


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
