"""The answers of a network manager about a card: whether it owns the card, and the files that put it into a bridge."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Protocol

from nqrust.contract import names as product
from nqrust.host.errors import HostError
from nqrust.host.facts.nic import Address, Nic, NicRoute, lacks_route
from nqrust.host.port import Host
from nqrust.installer.verbs.network.guard import change as guard
from nqrust.installer.verbs.network.guard.change import FileChange, LiveState, NetworkChange, file_change

MARK = f"# Written by nqr ({product.PRODUCT}): `nqr uninstall` removes this file."


class Refused(Exception):
    """The card cannot be moved. `code` like NQR-NET-151, `why` and `cure` a sentence each."""

    def __init__(self, code: str, why: str, cure: str) -> None:
        self.code, self.why, self.cure = code, why, cure
        super().__init__(f"{code}: {why}")


@dataclass(frozen=True)
class Owner:
    """A manager that has configured the card. `sources`: the files that say how, for people."""

    manager: Manager
    sources: tuple[str, ...] = ()


class Manager(Protocol):
    """A network manager. `name`: what people call it."""

    name: str

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        """Return an Owner if this manager has configured the card. Read-only; a missing manager is None."""
        ...

    def change(self, host: Host, nic: Nic, bridge: str) -> NetworkChange:
        """Return the change that puts the card into `bridge`, with everything that it has. Raises Refused, HostError."""
        ...


def live_state(nic: Nic) -> LiveState:
    """Return what must be there again after the change. Link-local and temporary addresses, which the kernel makes, are left out."""
    routes = [
        guard.Route(
            "-6" if r.ipv6 else "-4",
            r.destination,
            gateway=r.gateway,
            table=r.table,
            metric="" if r.metric is None else str(r.metric),
            source=r.source,
            scope="" if r.ipv6 else r.scope,
            onlink=r.onlink,
            expires=r.expires,
            protocol=r.protocol if r.protocol == "kernel" else "",
        )
        for r in nic.routes
        if r.protocol != "kernel" or lacks_route(r.destination, ((a.cidr, a.peer, a.extras) for a in nic.addresses))
    ]
    return LiveState(
        device=nic.name,
        mac=nic.mac,
        mtu=nic.mtu,
        addresses=tuple(
            guard.Address(a.cidr, a.broadcast, a.seconds, a.preferred, a.peer, a.extras)
            for a in nic.addresses
            if not a.link_local and not a.temporary
        ),
        routes=tuple(sorted(routes, key=lambda route: bool(route.gateway))),
        rules=tuple(guard.Rule(words[0], words[1:]) for words in nic.rules),
        dns=nic.nameservers,
    )


def added(host: Host, path: str, content: str, *, mode: int = 0o644) -> FileChange:
    """Return the change that writes `content` to `path`. Raises HostError and StepFailed."""
    return file_change(host, path, content.encode(), mode=mode)


def make(
    nic: Nic,
    bridge: str,
    files: list[FileChange],
    load: list[list[str]],
    restore: list[list[str]],
    again: list[list[str]] | None = None,
) -> NetworkChange:
    """Put the parts of a change together."""
    return NetworkChange(
        link=nic.name,
        bridge=bridge,
        files=tuple(files),
        load=tuple(tuple(argv) for argv in load),
        restore=tuple(tuple(argv) for argv in restore),
        live=live_state(nic),
        gateways=nic.gateways,
        again=tuple(tuple(argv) for argv in again or ()),
    )


def empty(nic: Nic) -> list[str]:
    """Return the command that takes the addresses and routes off the card, which the bridge has now."""
    off = f"/proc/sys/net/ipv6/conf/{nic.name}/disable_ipv6"
    return ["/bin/sh", "-c", f"ip -4 address flush dev {nic.name} && {{ [ ! -e {off} ] || echo 1 >{off}; }}"]


def remove_bridge(nic: Nic, bridge: str) -> list[str]:
    """Return the command that takes the bridge away, if the manager has not, and gives the card its IPv6 again."""
    off = f"/proc/sys/net/ipv6/conf/{nic.name}/disable_ipv6"
    ipv6 = f"[ ! -e {off} ] || echo {nic.ipv6_off or 0} >{off}"
    return ["/bin/sh", "-c", f"ip link delete dev {bridge} 2>/dev/null || :; {ipv6}"]


def own_frames_only(nic: Nic) -> list[list[str]]:
    """Return the command that ends promiscuous mode, if the card was not in it. The manager must have the old files by then: it
    sets the mode again otherwise."""
    return [] if nic.promiscuous else [["ip", "link", "set", "dev", nic.name, "promisc", "off"]]


def renamed(value: str, nic: str, bridge: str) -> str:
    """Return `value` with the card's name, as a whole word, replaced by the bridge's."""
    return re.sub(rf"(?<![\w.:-]){re.escape(nic)}(?![\w.-])", bridge, value)


def unexplained_addresses(nic: Nic, configured: list[str]) -> list[Address]:
    """Return permanent addresses that the configuration does not mention: somebody added them by hand."""
    known = {_address(value) for value in configured}
    return [a for a in nic.addresses if not a.dynamic and not a.link_local and _address(a.cidr) not in known]


def label_and_metric(address: Address, bridge: str) -> tuple[str, ...]:
    """Return these parts of an address of the card, for `ip address add` on the bridge. The kernel makes the route to its network in
    every case: nobody else does there."""
    return replace(address.extras, no_route=False).words(bridge)


def unexplained_routes(nic: Nic, configured: list[tuple[str, str]]) -> list[NicRoute]:
    """Return routes that neither the kernel, DHCP nor a router made, and that the configuration does not mention. A route that ends
    was advertised, also if a guard has set it since. `configured`: destination and gateway of each."""
    known = {(_destination(destination), gateway) for destination, gateway in configured}
    own = {"kernel", "dhcp", "ra", "redirect"}
    return [
        r
        for r in nic.routes
        if r.protocol not in own
        and r.expires is None
        and (_destination(r.destination, ipv6=r.ipv6), r.gateway) not in known
        and not (nic.dhcp and not r.ipv6 and r.protocol in ("boot", "") and r.destination == "default")
    ]


def _address(value: str) -> str:
    """Return the address alone: a peer's or a subnet's notation differs between ip(8) and the managers."""
    try:
        return str(ipaddress.ip_interface(value.strip()).ip)
    except ValueError:
        return value.strip()


def _destination(value: str, *, ipv6: bool | None = None) -> str:
    if value in ("", "default", "any"):
        return "default" if ipv6 is None else "::/0" if ipv6 else "0.0.0.0/0"
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return value


def without_lease(nic: Nic, shows: str) -> Refused:
    """Return the refusal of a card whose DHCP client has no lease now: it also has the client's identity, and the bridge would get
    another address. `shows`: the command that shows a lease."""
    return Refused(
        "NQR-NET-200",
        f"{nic.name} has an address from DHCP, but no lease at present.",
        f"Check the DHCP server of the LAN. Run the same command again once `{shows}` shows the lease.",
    )


def slaac_token(nic: Nic) -> str:
    """Return the interface part of the address that the card made from a router's prefix, such as "::1:2:3:4". Return "" if the
    kernel makes it from the MAC: the bridge has the same one."""
    for address in nic.addresses:
        if address.from_router and not address.temporary and address.cidr.endswith("/64"):
            low = int(ipaddress.ip_interface(address.cidr).ip) & (2**64 - 1)
            return "" if low == eui64(nic.mac) else str(ipaddress.IPv6Address(low))
    return ""


def eui64(mac: str) -> int:
    """Return the interface part that a MAC gives (RFC 4291, appendix A). -1 for what is no MAC."""
    octets = mac.split(":")
    if len(octets) != 6:
        return -1
    try:
        raw = bytes(int(o, 16) for o in octets)
    except ValueError:
        return -1
    return int.from_bytes(bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:], "big")


def readable(host: Host, path: str) -> str | None:
    """Return a file's text, or None if it cannot be read."""
    try:
        return host.read_text(path)
    except HostError:
        return None
