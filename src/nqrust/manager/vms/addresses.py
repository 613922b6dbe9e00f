"""Assigns addresses from a host's range. Pure."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address

from nqrust.contract.hosts import HostNetwork


class RangeFull(Exception):
    """Every address of the range is taken."""


def next_address(network: HostNetwork, taken: Collection[str], last: str | None) -> str | None:
    """Return the first free address after `last` (the previous one), wrapping round. None if nqr assigns no addresses there.

    The rotation keeps a deleted VM's address, and stale leases and ARP entries, unused for as long as possible.

    Raises RangeFull.
    """
    if not network.dhcp_first or not network.dhcp_last:
        return None
    low, high = int(IPv4Address(network.dhcp_first)), int(IPv4Address(network.dhcp_last))
    size = high - low + 1
    used = set(taken) | {network.gateway}
    start = int(IPv4Address(last)) + 1 - low if last and low <= int(IPv4Address(last)) <= high else 0
    for step in range(max(0, size)):
        address = str(IPv4Address(low + (start + step) % size))
        if address not in used:
            return address
    raise RangeFull(f"All {max(0, size)} addresses from {network.dhcp_first} to {network.dhcp_last} are taken.")
