"""Which addresses are this host's, and which its gateways': for the filter of VMs on a LAN's bridge. ip(8)"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nqrust.contract.text import word
from nqrust.host.errors import ParseError
from nqrust.host.port import Host, command

_NET = "/sys/class/net"


@dataclass(frozen=True)
class Protected:
    """`v4`, `v6`: addresses on the bridge in whose name no VM speaks: this host's, and those of its gateways.

    `of_host_v4`, `of_host_v6`: addresses of this host on all of its links, without those that no router leads to. On the bridge they
    are at `mac`. `cards`: the MACs of its other network cards. `broadcasts`: addresses that it takes for all machines of a network."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    of_host_v4: tuple[str, ...] = ()
    of_host_v6: tuple[str, ...] = ()
    mac: str = ""
    cards: tuple[str, ...] = ()
    broadcasts: tuple[str, ...] = ()


def protected(host: Host, bridge: str) -> Protected:
    """Look at the links of `host` as they are now. Raises HostError."""
    links = _json(host, "address", "show", ok=(0,))
    v4, v6 = by_family(_addresses(links, bridge) + _gateways(host, bridge))
    of_host = [one for one in _addresses(links) if _is_led_to(one)]
    of_host_v4, of_host_v6 = by_family([*of_host, *_addresses(links, bridge)])
    mac = next((word(str(link["address"])) for link in links if link.get("ifname") == bridge and "address" in link), "")
    return Protected(v4, v6, of_host_v4, of_host_v6, mac, _cards(host, links, mac), _broadcasts(links))


def by_family(addresses: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sort addresses by family, and leave out other text. Pure."""
    v4, v6 = set[ipaddress.IPv4Address](), set[ipaddress.IPv6Address]()
    for text in addresses:
        try:
            one = ipaddress.ip_address(text)
        except ValueError:
            continue
        v4.add(one) if isinstance(one, ipaddress.IPv4Address) else v6.add(one)
    return tuple(map(str, sorted(v4))), tuple(map(str, sorted(v6)))


def _addresses(links: list[dict[str, Any]], of: str = "") -> list[str]:
    found = [link for link in links if not of or link.get("ifname") == of]
    return [str(one.get("local", "")) for link in found for one in link.get("addr_info", [])]


def _is_led_to(text: str) -> bool:
    """Other machines of the LAN have link-local addresses such as fe80::1, too, which the host has on links of containers."""
    try:
        one = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (one.is_loopback or one.is_link_local)


def _broadcasts(links: list[dict[str, Any]]) -> tuple[str, ...]:
    """The first address of a network is one, too, before Linux 5.14."""
    found = []
    for one in (one for link in links for one in link.get("addr_info", [])):
        found.append(str(one.get("broadcast", "")))
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(f"{one.get('local')}/{one.get('prefixlen')}", strict=False)
            if network.version == 4 and network.prefixlen < 31 and not network.is_loopback:
                found += [str(network.network_address), str(network.broadcast_address)]
    (v4, _), (own, _) = by_family(found), by_family(_addresses(links))
    return tuple(one for one in v4 if one not in own and not one.startswith(("0.", "255.")))


def _gateways(host: Host, bridge: str) -> list[str]:
    """Return every gateway on the bridge: of a route in any table, also one of several next hops, or one of the other family."""
    routes = [one for family in ("-4", "-6") for one in _json(host, family, "route", "show", "table", "all", ok=(0, 1, 2))]
    # With a sysctl of routing daemons, a route names its next hop by number alone; ip-sysctl, nexthop_compat_mode.
    routes += _json(host, "nexthop", "show", ok=(0, 1, 2, 255))
    hops = [hop for one in routes for hop in (one, *one.get("nexthops", ())) if hop.get("dev") == bridge]
    return [str(address) for hop in hops for address in (hop.get("gateway", ""), hop.get("via", {}).get("host", ""))]


def _cards(host: Host, links: list[dict[str, Any]], mac: str) -> tuple[str, ...]:
    """Of cards alone: other links may have the MACs of other machines, such as of virtual routers."""
    found = {str(link["address"]) for link in links if "address" in link and host.exists(f"{_NET}/{link.get('ifname')}/device")}
    return tuple(sorted(word(one) for one in found - {mac} if len(one) == 17))


def _json(host: Host, *words: str, ok: tuple[int, ...]) -> list[dict[str, Any]]:
    answer = host.run(command("ip", "-j", *words, ok=ok)).stdout
    try:
        return [one for one in json.loads(answer or "[]") if isinstance(one, dict)]
    except ValueError as error:
        if ok == (0,):
            raise ParseError(f"ip {' '.join(words)}", str(error)) from error
        return []
