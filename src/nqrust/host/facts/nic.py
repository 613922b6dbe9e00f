"""One network card with all that depends on it: addresses, routes of every table, rules, name servers (ip(8), sysfs)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import ParseError
from nqrust.host.facts.policy_rules import parse_rules
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command

_ETHERNET = ("", "veth", "virtio", "macvlan")
"""Kinds of links that carry Ethernet frames of their own. ip(8) shows none for hardware."""


_FOR_EVER = 2**32 - 1
"""A lifetime of ip-address(8)."""


@dataclass(frozen=True)
class Extras:
    """Rare parts of an address. `metric`: of the route that the kernel makes with it. `no_route`: the kernel makes none, and the
    network manager has its own. `label`: the part after "LINK:", which old programs take for an alias of the link."""

    metric: int | None = None
    no_route: bool = False
    label: str = ""

    def words(self, device: str) -> tuple[str, ...]:
        """Return the words for `ip address add`. A label that is too long for this device is left out (IFNAMSIZ)."""
        label = f"{device}:{self.label}"
        said = ["metric", str(self.metric)] if self.metric is not None else []
        said += ["label", label] if self.label and len(label) < 16 else []
        return (*said, *(["noprefixroute"] if self.no_route else []))


PLAIN = Extras()


@dataclass(frozen=True)
class Address:
    """`dynamic`: with a lifetime, from DHCP or a router's advertisement. `seconds`: what is left of it, None for ever. `preferred`:
    the seconds in which new connections may use it, None for ever. `peer`: the other end of a point-to-point address, as CIDR.
    `extras`: what else `ip address add` must say."""

    cidr: str
    dynamic: bool = False
    temporary: bool = False
    link_local: bool = False
    from_router: bool = False  # made from a router's prefix: mngtmpaddr, or a dynamic one that DHCP did not give
    seconds: int | None = None
    broadcast: str = ""
    preferred: int | None = None
    peer: str = ""
    extras: Extras = PLAIN

    @property
    def words(self) -> tuple[str, ...]:
        """Return the address for `ip address add`."""
        return address_words(self.cidr, self.peer)

    @property
    def ipv6(self) -> bool:
        return ":" in self.cidr


@dataclass(frozen=True)
class NicRoute:
    """A route over the card. `destination`: CIDR or "default". `expires`: seconds left of a router's advertisement, None for ever."""

    destination: str
    gateway: str = ""
    table: str = "main"
    protocol: str = ""
    scope: str = ""
    metric: int | None = None
    source: str = ""
    onlink: bool = False
    ipv6: bool = False
    expires: int | None = None

    def words(self, device: str) -> tuple[str, ...]:
        """Return the route for `ip route add`, led by "-4" or "-6"."""
        said = ["-6" if self.ipv6 else "-4", self.destination]
        said += via(self.gateway, ipv6=self.ipv6)
        for name, value in (("dev", device), ("src", self.source), ("table", self.table)):
            said += [name, value] if value and value != "main" else []
        said += ["proto", self.protocol] if self.protocol else []
        said += ["scope", self.scope] if self.scope and not self.ipv6 else []
        said += ["metric", str(self.metric)] if self.metric is not None else []
        return tuple(said + (["onlink"] if self.onlink else []))


@dataclass(frozen=True)
class Nic:
    """A network card. `kind`: physical, wifi, vlan, bond, bridge, team, or the kernel's own word. `rules`: policy rules of the whole
    host, words for `ip rule add`. `accept_ra`, `ipv6_off`: its settings below /proc/sys/net/ipv6/conf, "" without IPv6."""

    name: str
    index: int
    kind: str
    mac: str
    mtu: int
    up: bool
    master: str = ""
    master_kind: str = ""
    permanent_mac: str = ""
    promiscuous: bool = False
    addresses: tuple[Address, ...] = ()
    routes: tuple[NicRoute, ...] = ()
    rules: tuple[tuple[str, ...], ...] = ()
    nameservers: tuple[str, ...] = ()
    accept_ra: str = ""
    ipv6_off: str = ""

    @property
    def gateways(self) -> tuple[str, ...]:
        """Next hops of its default routes, of both families, each once."""
        return tuple(dict.fromkeys(r.gateway for r in self.routes if r.destination == "default" and r.gateway))

    @property
    def dhcp(self) -> bool:
        """Whether an IPv4 address has a lifetime: only DHCP gives one."""
        return any(a.dynamic and not a.ipv6 for a in self.addresses)


def probe(host: Host, name: str) -> Nic | None:
    """Return the card, or None if there is none of that name. Raises HostError, also if ip(8) is missing."""
    folder = f"/sys/class/net/{name}"
    if not host.exists(folder):
        return None
    links = {one.get("ifname"): one for one in _ip(host, "-details", "address", "show")}
    routes = [
        route
        for family in ("-4", "-6")
        for route in parse_routes(_ip(host, family, "route", "show", "table", "all", "dev", name), ipv6=family == "-6")
    ]
    rules = [rule for family in ("-4", "-6") for rule in parse_rules(_ip(host, family, "rule", "show"), family)]
    found = parse_link(links, name)
    wireless = host.exists(f"{folder}/wireless") or host.exists(f"{folder}/phy80211")
    return Nic(
        name=name,
        index=found["index"],
        kind="wifi" if wireless else found["kind"],
        mac=found["mac"],
        mtu=found["mtu"],
        up=found["up"],
        master=found["master"],
        master_kind=found["master_kind"],
        permanent_mac=found["permanent_mac"],
        promiscuous=found["promiscuous"],
        addresses=found["addresses"],
        routes=tuple(routes),
        rules=tuple(rules),
        nameservers=_nameservers(host, found["index"]),
        accept_ra=text(host, f"/proc/sys/net/ipv6/conf/{name}/accept_ra").strip(),
        ipv6_off=text(host, f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").strip(),
    )


def parse_link(links: dict[Any, dict[str, Any]], name: str) -> dict[str, Any]:
    """Parse the card's entry of `ip -json -details address show`, given by name. Raises ParseError."""
    link = links.get(name)
    if link is None:
        raise ParseError("ip address", f"{name} is not in it")
    kind = (link.get("linkinfo") or {}).get("info_kind", "")
    master = link.get("master", "")
    above = links.get(master, {})
    return {
        "index": int(link.get("ifindex", 0)),
        "kind": "physical" if kind in _ETHERNET else kind,
        "mac": str(link.get("address", "")),
        "mtu": int(link.get("mtu", 1500)),
        "up": "UP" in link.get("flags", []),
        "master": master,
        "master_kind": (above.get("linkinfo") or {}).get("info_kind", "") if master else "",
        "permanent_mac": str(link.get("permaddr", "")),
        "promiscuous": "PROMISC" in link.get("flags", []),
        "addresses": tuple(_address(one, name) for one in link.get("addr_info", []) if "local" in one),
    }


def _address(one: dict[str, Any], name: str) -> Address:
    left, preferred = lifetimes(one)
    dynamic = bool(one.get("dynamic"))
    ipv6 = one.get("family") == "inet6"
    return Address(
        cidr=f"{one['local']}/{one['prefixlen']}",
        dynamic=dynamic,
        temporary=bool(one.get("temporary")),
        link_local=one.get("scope") == "link" and ipv6,
        from_router=ipv6 and dynamic and (bool(one.get("mngtmpaddr")) or one.get("prefixlen") == 64),
        seconds=left,
        broadcast=str(one.get("broadcast", "")),
        preferred=preferred,
        peer=peer(one),
        extras=extras(one, name),
    )


def extras(one: dict[str, Any], device: str) -> Extras:
    """Return the rare parts of an address of `ip -json address show`. ip(8) sets no label but those that start with the link."""
    link, colon, label = str(one.get("label", "")).partition(":")
    metric = one.get("metric")
    return Extras(
        metric=metric if isinstance(metric, int) else None,
        no_route=bool(one.get("noprefixroute")),
        label=label if colon and link == device else "",
    )


def lacks_route(destination: str, addresses: Iterable[tuple[str, str, Extras]]) -> bool:
    """Return whether the kernel makes no route to the network `destination` with these addresses: CIDR, peer, extras. Its network
    manager makes that route then, and NetworkManager calls it the kernel's."""
    networks = [ipaddress.ip_network(peer or cidr, strict=False) for cidr, peer, extras in addresses if extras.no_route]
    return destination not in ("", "default") and ipaddress.ip_network(destination, strict=False) in networks


def address_words(cidr: str, peer: str) -> tuple[str, ...]:
    """Return an address, with its peer if it has one, as ip(8) takes and shows it."""
    return (cidr.partition("/")[0], "peer", peer) if peer else (cidr,)


def peer(one: dict[str, Any]) -> str:
    """Return the other end of a point-to-point address of `ip -json address show`, as CIDR, or ""."""
    return f"{one['address']}/{one['prefixlen']}" if one.get("address") else ""


def via(gateway: str, *, ipv6: bool) -> list[str]:
    """Return the next hop of a route for `ip route add`. An IPv4 route may have one of IPv6."""
    return ["via", *(["inet6"] if ":" in gateway and not ipv6 else []), gateway] if gateway else []


def gateway(one: dict[str, Any]) -> str:
    """Return the next hop of a route of `ip -json route show`, or ""."""
    other = one.get("via")
    return str(one.get("gateway") or (other.get("host") if isinstance(other, dict) else "") or "")


def lifetimes(one: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return the seconds for which an address of `ip -json address show` is valid and preferred. None stands for ever."""
    if not one.get("dynamic"):
        return None, None
    return seconds(one.get("valid_life_time")), seconds(one.get("preferred_life_time"))


def seconds(left: object) -> int | None:
    """Return a lifetime of ip(8) in seconds. None stands for ever."""
    return left if isinstance(left, int) and left < _FOR_EVER else None


def parse_routes(routes: list[dict[str, Any]], *, ipv6: bool) -> tuple[NicRoute, ...]:
    """Parse `ip -json route show table all dev NAME`. The kernel makes those of the tables local and multicast itself."""
    found = []
    for one in routes:
        table = str(one.get("table", "main"))
        if table == "local" or one.get("type", "unicast") not in ("unicast",) or str(one.get("dst", "")).startswith("ff00:"):
            continue
        metric = one.get("metric")
        found.append(
            NicRoute(
                destination=str(one.get("dst", "")),
                gateway=gateway(one),
                table=table,
                protocol=str(one.get("protocol", "")),
                scope=str(one.get("scope", "")),
                metric=metric if isinstance(metric, int) else None,
                source=str(one.get("prefsrc", "")),
                onlink="onlink" in one.get("flags", []),
                ipv6=ipv6,
                expires=seconds(one.get("expires")),
            )
        )
    return tuple(found)


def _ip(host: Host, *arguments: str) -> list[dict[str, Any]]:
    """Return the objects of an `ip -json` command. A card without any answers with nothing. Raises HostError."""
    said = host.run(command("ip", "-json", *arguments, timeout=10)).stdout
    try:
        found = json.loads(said.strip() or "[]")
    except (ValueError, RecursionError) as error:
        raise ParseError("ip", str(error)) from error
    return [one for one in found if isinstance(one, dict) and one] if isinstance(found, list) else []


def _nameservers(host: Host, index: int) -> tuple[str, ...]:
    """Return the card's name servers: those that networkd knows for it, else the host's."""
    own = [line.partition("=")[2] for line in text(host, f"/run/systemd/netif/links/{index}").splitlines() if line[:4] == "DNS="]
    if own and own[0].strip():
        return tuple(own[0].split())
    for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"):
        found = tuple(f[1] for f in map(str.split, text(host, path).splitlines()) if len(f) > 1 and f[0] == "nameserver")
        if found:
            return found
    return ()
