"""Links, addresses, routes and policy rules, from ip(8), or from /proc and /sys without it."""

from __future__ import annotations

import json
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.facts import network as network_facts
from nqrust.host.facts import ports as port_facts
from nqrust.host.facts import processes
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint.model import Section


def take_links(host: Host) -> Section:
    found: Section = {}
    for link in network_facts.probe(host, {}).links:
        alias = text(host, f"/sys/class/net/{link.name}/ifalias").strip()
        mtu = text(host, f"/sys/class/net/{link.name}/mtu").strip()
        found[link.name] = {
            "kind": link.kind,
            "up": link.up,
            "mac": link.mac,
            "master": link.master or "",
            "alias": alias,
            "mtu": mtu,
            "addresses": sorted(link.addresses),
        }
    return found


def take_routes(host: Host, unread: list[str]) -> Section:
    """Return the main tables of IPv4 and IPv6, and the policy rules, with keys in ip(8)'s notation."""
    found: Section = {}
    if host.which("ip") is None:
        for route in network_facts.probe(host, {}).routes:
            found[f"{route.destination} dev {route.device}"] = [route.gateway or "", route.metric]
        return found
    for family in ("-4", "-6"):
        for what in ("route", "rule"):
            try:
                answer = host.run(command("ip", "-json", family, what, "show", timeout=10)).stdout
                found.update(parse(answer, f"{what}{family}"))
            except (HostError, ValueError) as error:
                unread.append(f"routes: {error}")
    return found


def parse(content: str, what: str) -> Section:
    """Parse ip(8)'s output, without flags and lifetimes, which change on their own. Raises ValueError."""
    found: Section = {}
    for entry in json.loads(content or "[]"):
        if not isinstance(entry, dict):
            continue
        kept: dict[str, Any] = {
            name: value for name, value in entry.items() if name not in ("flags", "expires", "cache", "used", "age")
        }
        target = kept.pop("dst", "") if what.startswith("route") else kept.pop("priority", "")
        device = kept.pop("dev", "")
        key, number = f"{what} {target} {device}".strip(), 2
        while key in found:
            key, number = f"{what} {target} {device} #{number}", number + 1
        found[key] = kept
    return found


def take_ports(host: Host) -> Section:
    """Return the listening sockets with their programs. UDP ports in the ephemeral range are ignored: they belong to queries."""
    first = text(host, "/proc/sys/net/ipv4/ip_local_port_range").split()
    ephemeral = int(first[0]) if first and first[0].isdecimal() else 32768
    return {
        f"{port.protocol} {port.address} {port.port}": port.process
        for port in port_facts.probe(host, processes.probe(host))
        if port.protocol == "tcp" or port.port < ephemeral
    }
