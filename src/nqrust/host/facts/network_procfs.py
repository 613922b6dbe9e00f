"""Addresses and routes without iproute2, from /proc/net (proc(5)). Pure."""

from __future__ import annotations

import ipaddress
import re

from nqrust.host.facts.model import Route
from nqrust.host.facts.ports import parse_address

_UP, _GATEWAY = 0x1, 0x2  # RTF_UP, RTF_GATEWAY, route(8)
_REJECT = 0x200
_LEAF = re.compile(r"^\s*\|-- (\d{1,3}(?:\.\d{1,3}){3})\s*\n\s*/32 host LOCAL", re.ASCII | re.MULTILINE)


def parse_routes(content: str) -> tuple[Route, ...]:
    """/proc/net/route: the main IPv4 table. Lines that do not parse (the header is one) are left out."""
    routes = []
    for line in content.splitlines():
        fields = line.split()
        try:
            device, destination, gateway, flags = fields[0], fields[1], fields[2], int(fields[3], 16)
            metric, mask = int(fields[6]), fields[7]
            network = ipaddress.IPv4Network(f"{parse_address(destination)}/{parse_address(mask)}", strict=False)
            hop = parse_address(gateway)
        except (ValueError, IndexError):
            continue
        if flags & _UP and not flags & _REJECT:
            text = "default" if network.prefixlen == 0 else str(network)
            routes.append(Route(text, device, hop if flags & _GATEWAY else None, metric))
    return tuple(routes)


def addresses(fib_trie: str, route: str, if_inet6: str) -> dict[str, tuple[str, ...]]:
    """Addresses (CIDR) of each link. An IPv4 address belongs to the link whose own network holds it."""
    found: dict[str, list[str]] = {}
    networks = [
        (ipaddress.IPv4Network(one.destination), one.device)
        for one in parse_routes(route)
        if one.gateway is None and one.destination != "default"
    ]
    networks.append((ipaddress.IPv4Network("127.0.0.0/8"), "lo"))
    for text in sorted(set(_LEAF.findall(fib_trie))):
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            continue
        holding = [(network.prefixlen, device) for network, device in networks if address in network]
        if holding:
            length, device = max(holding)
            found.setdefault(device, []).append(f"{address}/{length}")
    for line in if_inet6.splitlines():
        fields = line.split()
        try:
            inet6 = ipaddress.IPv6Address(bytes.fromhex(fields[0]))
            found.setdefault(fields[5], []).append(f"{inet6}/{int(fields[2], 16)}")
        except (ValueError, IndexError):
            continue
    return {device: tuple(listed) for device, listed in found.items()}
