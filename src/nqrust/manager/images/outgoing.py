"""The HTTP client for image downloads. Regardless of names and redirects, it connects to other machines only.

Services on this machine, and a cloud's services for its machines, are not for users who may add images.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import httpx

from nqrust import loopback
from nqrust.contract.names import CLOUD_SERVICES
from nqrust.host.environment import certificates
from nqrust.manager.errors import ImageError
from nqrust.tls.patience import patient

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_MOST_REDIRECTS = 5


async def client(url: str, local: bool, verify: bool = True) -> httpx.AsyncClient:
    """Return the client. `local`: `url` itself may lead to this machine. A redirect may do so only if `url` does. `verify`: refuse
    unknown certificates."""
    trusted = _trusted() if verify else httpx.create_ssl_context(verify=False)
    transport = httpx.AsyncHTTPTransport(verify=trusted)
    if not (local and any(map(_is_local, await _addresses(httpx.URL(url).host)))):
        transport._pool = httpcore.AsyncConnectionPool(ssl_context=trusted, network_backend=_Elsewhere(), keepalive_expiry=5.0)
    return patient(
        httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=True, max_redirects=_MOST_REDIRECTS, transport=transport, trust_env=False
        )
    )


def _trusted() -> ssl.SSLContext:
    """Return the authorities of httpx, of this machine, and of the file that the environment names. Raises ImageError."""
    named = certificates(os.environ)
    try:
        context = httpx.create_ssl_context()
        context.load_default_certs()
        if named:
            context.load_verify_locations(named)
    except OSError as error:  # ssl.SSLError is one
        raise ImageError(
            f"The file of certificates {named} cannot be read: {error.strerror or error}.",
            cure="Correct SSL_CERT_FILE, CURL_CA_BUNDLE or REQUESTS_CA_BUNDLE of the manager's environment, then restart it.",
        ) from error
    return context


def refused(host: str) -> ImageError:
    return ImageError(
        f"{host} is this machine, or an address of a cloud's services. The manager fetches no images from there.",
        cure="Serve the image from another machine, or ask an administrator to add it.",
        code="NQR-IMG-114",
    )


class _Elsewhere(httpcore.AsyncNetworkBackend):
    """Resolves names and connects to the checked addresses: a second lookup could return different ones."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await _addresses(host)
        if any(map(_is_local, found)):
            raise refused(host)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


async def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise ImageError(f"{host} cannot be resolved: {error}.", cure="Check the name, and DNS on the manager's host.") from error
    return [ip_address(entry[4][0]) for entry in found]


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    special = inner.is_loopback or inner.is_link_local or inner.is_unspecified or inner.is_multicast
    return special or str(inner) in CLOUD_SERVICES or loopback.is_own(str(inner))
