"""Sources of connections and of sign-ins, by address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from nqrust import loopback

LOOPBACK = "loopback"
"""Of connections of this machine: each of its users is one source, so that no user shuts out another."""


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
