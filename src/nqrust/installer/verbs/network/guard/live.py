"""The state of a link that a change must keep, from `ip -json` and /sys/class/net."""

from __future__ import annotations

import json
from typing import Any

from nqrust.host.errors import HostError, ParseError
from nqrust.host.facts import policy_rules
from nqrust.host.facts.nic import extras, gateway, lacks_route, lifetimes, peer, seconds
from nqrust.host.port import Host, command
from nqrust.installer.verbs.network.guard.change import Address, LiveState, Route, Rule

_KERNEL = "kernel"
"""The protocol of routes that the kernel adds with an address."""


def live_state(host: Host, link: str, device: str, *, dns: tuple[str, ...] = ()) -> LiveState:
    """Return the state before a change. `link`: the NIC; `device`: what carries its addresses. Raises HostError."""
    addresses = parse_addresses(_ip(host, "address", "show", "dev", device))
    routes = tuple(
        route
        for family in ("-4", "-6")
        for route in parse_routes(_ip(host, "route", "show", "table", "all", "dev", device, family=family), family, addresses)
    )
    rules = tuple(rule for family in ("-4", "-6") for rule in parse_rules(_ip(host, "rule", "show", family=family), family))
    return LiveState(
        device=device,
        mac=_sys(host, device, "address"),
        mtu=int(_sys(host, device, "mtu") or 0),
        addresses=addresses,
        routes=routes,
        rules=rules,
        dns=dns,
        port_of=master(host, link),
        accept_ra=_read(host, f"/proc/sys/net/ipv6/conf/{device}/accept_ra"),
    )


def master(host: Host, link: str) -> str:
    """Return the bridge that `link` is a port of, or an empty string."""
    try:
        return host.readlink(f"/sys/class/net/{link}/master").rpartition("/")[2]
    except HostError:
        return ""


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Parse `ip -json address show dev NAME`. Leaves out link-local IPv6 and temporary addresses: the kernel makes them.

    Raises ParseError.
    """
    found = []
    for link in objects(text, "ip address"):
        for one in link.get("addr_info", ()):
            if one.get("scope") == "link" and one.get("family") == "inet6":
                continue
            if one.get("temporary") or one.get("deprecated") or not one.get("local"):
                continue
            valid, preferred = lifetimes(one)
            cidr = f"{one['local']}/{one['prefixlen']}"
            found.append(
                Address(cidr, str(one.get("broadcast", "")), valid, preferred, peer(one), extras(one, str(link.get("ifname"))))
            )
    return tuple(found)


def parse_routes(text: str, family: str, addresses: tuple[Address, ...] = ()) -> tuple[Route, ...]:
    """Parse `ip -json route show table all dev NAME`. Leaves out what the kernel adds with one of the `addresses`, and multicast.

    Routes over a gateway stand last, because the kernel must first know how to reach it. Raises ParseError.
    """
    found = []
    for one in objects(text, "ip route"):
        if one.get("type", "unicast") != "unicast" or not one.get("dst"):
            continue
        protocol = str(one.get("protocol", ""))
        if protocol == _KERNEL and not lacks_route(str(one["dst"]), ((a.cidr, a.peer, a.extras) for a in addresses)):
            continue
        found.append(
            Route(
                family,
                str(one["dst"]),
                gateway=gateway(one),
                table=str(one.get("table", "main")),
                metric=str(one.get("metric", "")),
                source=str(one.get("prefsrc", "")),
                scope=str(one.get("scope", "")) if family == "-4" else "",
                onlink="onlink" in one.get("flags", ()),
                expires=seconds(one.get("expires")),
                protocol=protocol if protocol == _KERNEL else "",
            )
        )
    return tuple(sorted(found, key=lambda route: bool(route.gateway)))


def parse_rules(text: str, family: str) -> tuple[Rule, ...]:
    """Parse `ip -json rule show`, without the kernel's own rules. Raises ParseError."""
    return tuple(Rule(words[0], words[1:]) for words in policy_rules.parse_rules(objects(text, "ip rule"), family))


def objects(text: str, what: str) -> list[dict[str, Any]]:
    """Return the list of objects that `ip -json` printed; it prints nothing for an empty list. Raises ParseError."""
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise ParseError(what, "it is not JSON") from error
    if not isinstance(found, list):
        raise ParseError(what, "it is not a list")
    return [one for one in found if isinstance(one, dict) and one]


def _ip(host: Host, *words: str, family: str = "") -> str:
    return host.run(command("ip", "-json", *((family,) if family else ()), *words)).stdout


def _sys(host: Host, device: str, name: str) -> str:
    return _read(host, f"/sys/class/net/{device}/{name}")


def _read(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""
