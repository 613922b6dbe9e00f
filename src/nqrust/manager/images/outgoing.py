"""The HTTP client for image downloads. Regardless of names and redirects, it connects to other machines only.

Services on this machine, and a cloud's services for its machines, are not for users who may add images.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import httpx

from nqrust import loopback
from nqrust.client.lookups import Lookups
from nqrust.contract.auth import Role
from nqrust.contract.names import CLOUD_SERVICES
from nqrust.host.environment import certificates
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import ImageError
from nqrust.tls.patience import patient

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_MOST_REDIRECTS = 5
_AT_ONCE = 4
"""Names of one user that are looked up at the same time. A name server can take half a minute, and each has a thread until then."""
_LOOKUP = 20.0
"""Seconds until a download waits no longer for the addresses of a name."""


@dataclass(frozen=True)
class Way:
    """How downloads for a user leave. `local`: the address itself may lead to this machine. A redirect may do so only if the address
    does. `lookups`: of this user, so that no name of it keeps others waiting."""

    local: bool = False
    lookups: Lookups = field(default_factory=lambda: Lookups(_AT_ONCE))


def way(core: Core, who: Principal) -> Way:
    """Return the way of this user's downloads."""
    return Way(who.may(Role.admin), core.lookups.setdefault(who.owner, Lookups(_AT_ONCE)))


async def client(url: str, way: Way, verify: bool = True) -> httpx.AsyncClient:
    """Return the client. `verify`: refuse unknown certificates."""
    trusted = _trusted() if verify else httpx.create_ssl_context(verify=False)
    transport = httpx.AsyncHTTPTransport(verify=trusted)
    local = way.local and any(map(_is_local, await _addresses(httpx.URL(url).host, way.lookups)))
    backend = _Checked(way.lookups, local)
    transport._pool = httpcore.AsyncConnectionPool(ssl_context=trusted, network_backend=backend, keepalive_expiry=5.0)
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


class _Checked(httpcore.AsyncNetworkBackend):
    """Resolves names and connects to the checked addresses: a second lookup could return different ones. `local`: those of this
    machine are good, too."""

    def __init__(self, lookups: Lookups, local: bool) -> None:
        self._inner, self._lookups, self._local = httpcore.AnyIOBackend(), lookups, local

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await _addresses(host, self._lookups)
        if not self._local and any(map(_is_local, found)):
            raise refused(host)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


async def _addresses(host: str, lookups: Lookups) -> list[IPv4Address | IPv6Address]:
    try:
        found = await asyncio.wait_for(lookups.addresses(host), _LOOKUP)
    except asyncio.TimeoutError as error:
        raise _unresolved(host, f"no answer in {_LOOKUP:.0f} s") from error
    except OSError as error:
        raise _unresolved(host, str(error)) from error
    return [ip_address(address) for address in found]


def _unresolved(host: str, why: str) -> ImageError:
    return ImageError(f"{host} cannot be resolved: {why}.", cure="Check the name, and DNS on the manager's host.")


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    special = inner.is_loopback or inner.is_link_local or inner.is_unspecified or inner.is_multicast
    return special or str(inner) in CLOUD_SERVICES or loopback.is_own(str(inner))
