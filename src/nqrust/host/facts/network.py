"""Links, addresses, routes, name servers, and managers of firewalls: /sys/class/net, ip(8), resolv.conf(5).

Without iproute2, /proc/net has nearly the same facts (network_procfs.py).
"""

from __future__ import annotations

import json
import re
from typing import Any

from nqrust.host.errors import HostError, ParseError
from nqrust.host.facts import network_procfs
from nqrust.host.facts.model import Link, Network, Route
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host, command

_UP = 0x1  # IFF_UP, netdevice(7)


def probe(host: Host, processes: dict[int, str]) -> Network:
    kinds, addresses = _addresses(host)
    return Network(
        links=tuple(
            _link(host, name, kinds, addresses)
            for name in names(host, "/sys/class/net")
            if host.exists(f"/sys/class/net/{name}/ifindex")
        ),
        routes=_routes(host),
        nameservers=_nameservers(host),
        firewall_managers=_firewalls(host, processes),
    )


def parse_ip_addr(content: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Parse `ip -json -details address show` into the kind and the addresses (CIDR) of each link. Raises ParseError."""
    kinds: dict[str, str] = {}
    addresses: dict[str, tuple[str, ...]] = {}
    for link in _objects(content, "ip address"):
        name = link.get("ifname")
        if not isinstance(name, str):
            continue
        info = link.get("linkinfo")
        kind = info.get("info_kind") if isinstance(info, dict) else None
        kinds[name] = kind if isinstance(kind, str) else ""
        listed = link.get("addr_info")
        addresses[name] = tuple(
            f"{one['local']}/{one['prefixlen']}"
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict) and isinstance(one.get("local"), str) and isinstance(one.get("prefixlen"), int)
        )
    return kinds, addresses


def parse_ip_route(content: str) -> tuple[Route, ...]:
    """`ip -json route show`. Raises ParseError."""
    routes = []
    for route in _objects(content, "ip route"):
        destination, device = route.get("dst"), route.get("dev")
        if not isinstance(destination, str):
            continue
        via = route.get("via")
        gateway = route.get("gateway") or (via.get("host") if isinstance(via, dict) else None)
        hops = route.get("nexthops")
        if device is None and isinstance(hops, list) and hops and isinstance(hops[0], dict):
            device, gateway = hops[0].get("dev"), hops[0].get("gateway")  # multipath: the first hop stands for all
        if not isinstance(device, str):
            continue
        metric, source, protocol = route.get("metric"), route.get("prefsrc"), route.get("protocol")
        routes.append(
            Route(
                destination,
                device,
                gateway=gateway if isinstance(gateway, str) else None,
                metric=metric if isinstance(metric, int) else 0,
                source=source if isinstance(source, str) else None,
                protocol=protocol if isinstance(protocol, str) else "",
            )
        )
    return tuple(routes)


def parse_resolv_conf(content: str) -> tuple[str, ...]:
    found = []
    for line in content.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] == "nameserver":
            found.append(fields[1])
    return tuple(found)


def _objects(content: str, what: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(content or "[]")
    except (ValueError, RecursionError) as error:
        raise ParseError(what, str(error)) from error
    if not isinstance(found, list):
        raise ParseError(what, "it is not a list")
    return [one for one in found if isinstance(one, dict)]


def _link(host: Host, name: str, kinds: dict[str, str], addresses: dict[str, tuple[str, ...]]) -> Link:
    folder = f"/sys/class/net/{name}"
    kind = kinds.get(name, "")
    if not kind:
        kind = "bridge" if host.exists(f"{folder}/bridge") else "tun" if host.exists(f"{folder}/tun_flags") else ""
    try:
        flags = int(text(host, f"{folder}/flags").strip() or "0", 16)
    except ValueError:
        flags = 0
    try:
        master: str | None = host.readlink(f"{folder}/master").rpartition("/")[2]
    except HostError:
        master = None
    return Link(
        name=name,
        kind=kind,
        up=bool(flags & _UP),
        mac=text(host, f"{folder}/address").strip(),
        master=master,
        addresses=addresses.get(name, ()),
    )


def _addresses(host: Host) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    if host.which("ip") is not None:
        try:
            return parse_ip_addr(host.run(command("ip", "-json", "-details", "address", "show", timeout=10)).stdout)
        except HostError:
            pass  # BusyBox's ip has no JSON
    return {}, network_procfs.addresses(
        text(host, "/proc/net/fib_trie"), text(host, "/proc/net/route"), text(host, "/proc/net/if_inet6")
    )


def _routes(host: Host) -> tuple[Route, ...]:
    if host.which("ip") is not None:
        try:
            return parse_ip_route(host.run(command("ip", "-json", "route", "show", timeout=10)).stdout)
        except HostError:
            pass
    return network_procfs.parse_routes(text(host, "/proc/net/route"))


def _nameservers(host: Host) -> tuple[str, ...]:
    found = parse_resolv_conf(text(host, "/etc/resolv.conf"))
    if found == ("127.0.0.53",):  # the stub of systemd-resolved(8); others can use its upstream servers
        return parse_resolv_conf(text(host, "/run/systemd/resolve/resolv.conf")) or found
    return found


def _firewalls(host: Host, processes: dict[int, str]) -> tuple[str, ...]:
    running = set(processes.values())
    active = {
        "firewalld": "firewalld" in running,
        "ufw": bool(re.search(r"^\s*ENABLED\s*=\s*[\"']?yes", text(host, "/etc/ufw/ufw.conf"), re.M | re.I)),
        "nftables": host.exists("/etc/systemd/system/sysinit.target.wants/nftables.service")
        or host.exists("/etc/systemd/system/multi-user.target.wants/nftables.service"),
        "docker": "dockerd" in running,
        "libvirt": bool(running & {"libvirtd", "virtnetworkd"}) or host.exists("/sys/class/net/virbr0"),
    }
    return tuple(name for name, is_active in active.items() if is_active)
