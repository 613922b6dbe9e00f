"""Sources of connections and of sign-ins, by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from nqrust import loopback

LOOPBACK = "loopback"
"""Of connections of this machine: each of its users is one source, so that no user shuts out another."""
STATE = "sender"
"""In a request's `scope["state"]`: the source of its connection."""
_USER = "user_of_client"
"""In a request's `scope["state"]`: what `is_roots` has found out."""

PROXIED = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via"))
"""Headers of reverse proxies: RFC 7239, RFC 9110 (7.6.3), and what was usual before."""


def group(address: str) -> str:
    """Return an IPv4 address as it is, and the /64 of an IPv6 address: one machine has any number of addresses in it."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)


def source_of(client: tuple[str, int], server: tuple[str, int]) -> str:
    """Return the source of a connection, by the addresses of its ends."""
    group = connection_group(client[0])
    return f"{LOOPBACK} {loopback.user_of(client, server)}" if group == LOOPBACK else group


def source_of_certificate(names: Sequence[str]) -> str:
    """Return the source of clients with this verified certificate. Empty: they have none. The guests of a host have its address, and
    a NAT gives one to many."""
    return f"certificate {names[0]}" if names else ""


def connection_group(address: str) -> str:
    """Return the group of a connection. A program of this machine can use any address of 127.0.0.0/8."""
    found = group(address)
    return LOOPBACK if found.startswith("127.") or found == "::" else found


def local(scope: Mapping[str, Any]) -> str:
    """Return the source of a request whose client is on this machine: its user. Empty for others. A program can use any address of
    127.0.0.0/8, and so would be as many sources."""
    client, server = scope.get("client"), scope.get("server")
    if not client or connection_group(client[0]) != LOOPBACK:
        return ""
    known = scope.get("state", {}).get(STATE)
    return str(known or source_of((client[0], client[1]), tuple(server or ("", 0))))


def of_client(scope: Mapping[str, Any]) -> str:
    """Return the source of a request, by its client: the user of this machine, or the address, such as a proxy has told it."""
    client = scope.get("client")
    return local(scope) or (group(client[0]) if client else "")


def user(source: str) -> int | None:
    """Return the user of this machine that a source stands for. None: it is another machine, or the kernel does not tell."""
    group, _, number = source.partition(" ")
    return int(number) if group == LOOPBACK and number.isdecimal() else None


def is_roots(scope: Mapping[str, Any]) -> bool:
    """Return whether a program of root on this machine sent a request, and for itself. A reverse proxy has a user of its own, or says
    in a header that it asks for somebody else."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or any(name in PROXIED for name, _ in scope["headers"]):
        return False
    known = user(local(scope))
    return (_user_of(scope, client, server) if known is None else known) == 0


def _user_of(scope: Mapping[str, Any], client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the user of the client. A request asks the kernel once: without sock_diag(7) that takes up to 30 ms, in which the server
    does nothing else."""
    state = scope.get("state", {})
    if _USER not in state:
        known = loopback.user_of(client, server)
        state[_USER] = loopback.user_in_table(client, server) if known is None else known
    found: int | None = state[_USER]
    return found
