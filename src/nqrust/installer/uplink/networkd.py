"""systemd-networkd(8): files that sort before the card's own one (systemd.network(5): the first that matches counts).

A drop-in cannot take an address away from the card, so nqr adds a file for the card, and a copy of
the card's file for the bridge.
"""

from __future__ import annotations

import re

from nqrust.host.facts.nic import Address, Nic
from nqrust.host.facts.reading import text
from nqrust.host.port import Host
from nqrust.installer.uplink.model import (
    MARK,
    Owner,
    Refused,
    added,
    empty,
    label_and_metric,
    make,
    own_frames_only,
    readable,
    remove_bridge,
    renamed,
    slaac_token,
    unexplained_addresses,
    unexplained_routes,
    without_lease,
)
from nqrust.installer.uplink.sections import Section, parse, render
from nqrust.installer.verbs.network.guard.change import NetworkChange

FOLDERS = ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
_STAYS = {
    "VLAN", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP", "VXLAN", "Tunnel", "MACsec", "Xfrm", "LLDP", "EmitLLDP",
}  # fmt: skip
"""Settings of [Network] that stay with the card: links that stand on it, and LLDP, which a bridge does not forward."""
_MASTERS = {"Bridge", "Bond", "BatmanAdvanced"}
_BRIDGES_LINK = {"RequiredForOnline", "RequiredFamilyForOnline", "Multicast", "AllMulticast"}
_NAMES = {"IncomingInterface", "OutgoingInterface", "MultiPathRoute"}
_STAYING_SECTIONS = {"SR-IOV", "QDisc", "CAKE", "FairQueueing", "FairQueueingControlledDelay", "TokenBucketFilter"}


class Networkd:
    """networkd with files of the administrator."""

    name = "systemd-networkd"

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        path = network_file(host, nic)
        return Owner(self, (path,)) if path and self.mine(path) else None

    def mine(self, path: str) -> bool:
        return not is_netplan(path)

    def change(self, host: Host, nic: Nic, bridge: str) -> NetworkChange:
        path = network_file(host, nic)
        return change(host, nic, bridge, path, configuration(host, path, nic.name))


def is_netplan(path: str) -> bool:
    return path.startswith("/run/systemd/network/10-netplan-")


def network_file(host: Host, nic: Nic) -> str:
    """Return the .network file that networkd applied to the card, or "". Its state file names it."""
    values = dict(line.partition("=")[::2] for line in text(host, f"/run/systemd/netif/links/{nic.index}").splitlines())
    managed = values.get("ADMIN_STATE", "") not in ("", "unmanaged", "linger")
    return values.get("NETWORK_FILE", "") if managed and running(host) else ""


def running(host: Host) -> bool:
    return host.exists("/run/systemd/netif/state")


def configuration(host: Host, path: str, nic: str) -> list[Section]:
    """Return the sections of a .network file and of its drop-ins, in the order in which networkd reads them."""
    content = readable(host, path)
    if content is None:
        raise Refused(
            "NQR-NET-156",
            f"{path}, which configured {nic}, cannot be read.",
            "Put the file back, run `networkctl reload`, then run the same command again.",
        )
    found = parse(content)
    name = path.rpartition("/")[2]
    drop_ins: dict[str, str] = {}
    for folder in FOLDERS:
        for drop_in in host.glob(f"{folder}/{name}.d/*.conf"):
            drop_ins.setdefault(drop_in.rpartition("/")[2], drop_in)
    for _, drop_in in sorted(drop_ins.items()):
        found += parse(text(host, drop_in))
    return found


def change(host: Host, nic: Nic, bridge: str, path: str, sections: list[Section]) -> NetworkChange:
    """Return the change for a card with this configuration."""
    prefix = first_prefix(path.rpartition("/")[2], nic.name)
    of_nic, of_bridge = split(nic, bridge, sections)
    dhcp = wants_dhcp(sections)
    if dhcp:
        of_bridge += identity(host, nic, sections)
    token = slaac_token(nic)
    if token:
        of_bridge.append(Section("IPv6AcceptRA", [("Token", f"static:{token}")]))
    of_bridge += by_hand(nic, bridge, sections)
    netdev = [
        Section("NetDev", [("Name", bridge), ("Kind", "bridge"), ("MACAddress", nic.mac), ("MTUBytes", str(nic.mtu))]),
        Section("Bridge", [("STP", "no"), ("ForwardDelaySec", "0")]),
    ]
    # A rule that renames the card by its MAC would take the bridge, which has the same one.
    link = [Section("Match", [("OriginalName", bridge)]), Section("Link", [("MACAddressPolicy", "none")])]
    folder = FOLDERS[0]
    files = [
        added(host, f"{folder}/{prefix}{bridge}.netdev", render(netdev, head=MARK)),
        added(host, f"{folder}/{prefix}{bridge}.link", render(link, head=MARK)),
        added(host, f"{folder}/{prefix}{bridge}.network", render(of_bridge, head=f"{MARK}\n# A copy of {path}.")),
        added(host, f"{folder}/{prefix}{nic.name}.network", render(of_nic, head=MARK)),
    ]
    # A reload would give the lease back: networkd sends a release when a card stops. A restart keeps it (RestartKillSignal),
    # and with it the card's old addresses. On the way back a reload does not configure a card that left a bridge.
    restart = ["systemctl", "restart", "systemd-networkd.service"]
    take = restart if dhcp else ["networkctl", "reload"]
    return make(nic, bridge, files, [take, empty(nic)], [remove_bridge(nic, bridge), restart, *own_frames_only(nic)])


def first_prefix(name: str, nic: str) -> str:
    """Return a prefix with which networkd reads the card's file before `name`. Raises Refused."""
    for prefix in ("00-nqrust-", "0-nqrust-", "+nqrust-", "!nqrust-"):
        if f"{prefix}{nic}.network" < name:
            return prefix
    raise Refused(
        "NQR-NET-156",
        f"No file can come before {name}, which configures {nic}.",
        "Rename it so that it starts with a number, run `networkctl reload`, then run the same command again.",
    )


def split(nic: Nic, bridge: str, sections: list[Section]) -> tuple[list[Section], list[Section]]:
    """Return the configuration of the card as a port, and of the bridge. Raises Refused for a card that is a port already."""
    port = Section("Network", [("Bridge", bridge), ("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")])
    link = Section("Link")
    of_nic = [Section("Match", [("Name", nic.name)]), link, port]
    of_bridge = [Section("Match", [("Name", bridge)])]
    for section in sections:
        if section.name == "Match":
            continue
        masters = [name for name, _ in section.entries if section.name == "Network" and name in _MASTERS]
        if masters:
            raise Refused(
                "NQR-NET-154",
                f"{nic.name} is configured as a part of a {masters[0].lower()}.",
                "Name that link with --uplink instead.",
            )
        if section.name == "Link":
            link.entries += [(n, v) for n, v in section.entries if n not in ("MTUBytes", *_BRIDGES_LINK)]
            of_bridge.append(Section("Link", [(n, v) for n, v in section.entries if n in _BRIDGES_LINK]))
        elif section.name == "Network":
            port.entries += [(n, v) for n, v in section.entries if n in _STAYS]
            of_bridge.append(Section("Network", [(n, v) for n, v in section.entries if n not in _STAYS]))
        elif section.name in _STAYING_SECTIONS:
            of_nic.append(section)
        elif section.name != "Bridge":
            moved = [(n, renamed(v, nic.name, bridge) if n in _NAMES else v) for n, v in section.entries]
            of_bridge.append(Section(section.name, moved))
    link.entries += [("MTUBytes", str(nic.mtu)), ("RequiredForOnline", "no"), ("Promiscuous", "yes")]
    return of_nic, of_bridge


def wants_dhcp(sections: list[Section]) -> bool:
    """Return whether the card asks a DHCP server, of whatever family."""
    said = [value for s in sections if s.name == "Network" for value in s.values("DHCP")]
    return bool(said) and said[-1].lower() not in ("no", "none", "false", "0", "off", "")


def identity(host: Host, nic: Nic, sections: list[Section]) -> list[Section]:
    """Return the settings that keep the DHCP client's identity: networkd makes the IAID from the name of the link. Its lease
    file has the whole identifier: ff, IAID, DUID (RFC 4361)."""
    lease = text(host, f"/run/systemd/netif/leases/{nic.index}")
    if nic.dhcp and not lease:
        raise without_lease(nic, f"networkctl status {nic.name}")
    found = re.search(r"^CLIENTID=ff([0-9a-f]{8})[0-9a-f]+$", lease, re.MULTILINE | re.IGNORECASE)
    alone = [value for s in sections if s.name in ("DHCP", "DHCPv4") for value in s.values("ClientIdentifier")]
    if not found or "duid-only" in alone:  # no IAID is in it
        return []
    iaid = str(int(found[1], 16))
    return [Section("DHCPv4", [("IAID", iaid)]), Section("DHCPv6", [("IAID", iaid)])]


def by_hand(nic: Nic, bridge: str, sections: list[Section]) -> list[Section]:
    """Return sections for addresses and routes that somebody added to the card with ip(8)."""
    addresses = [value for s in sections if s.name in ("Network", "Address") for value in s.values("Address")]
    routes = [(_every(value), value) for s in sections if s.name == "Network" for value in s.values("Gateway")]
    for section in sections:
        if section.name == "Route":
            gateway = section.last("Gateway")
            routes.append((section.last("Destination") or _every(gateway), gateway))
    found = [
        Section("Address", [("Address", a.cidr), *([("Peer", a.peer)] if a.peer else []), *_rare(a, bridge)])
        for a in unexplained_addresses(nic, addresses)
    ]
    for route in unexplained_routes(nic, routes):
        everywhere = "::/0" if route.ipv6 else "0.0.0.0/0"
        entries = [("Destination", everywhere if route.destination == "default" else route.destination)]
        entries += [("Gateway", route.gateway)] if route.gateway else []
        entries += [("GatewayOnLink", "yes")] if route.onlink else []
        entries += [("PreferredSource", route.source)] if route.source else []
        entries += [("Metric", str(route.metric))] if route.metric is not None else []
        entries += [("Table", route.table)] if route.table != "main" else []
        entries += [("Scope", route.scope)] if route.scope and not route.ipv6 and not route.gateway else []
        found.append(Section("Route", entries))
    return found


def _rare(address: Address, bridge: str) -> list[tuple[str, str]]:
    words = label_and_metric(address, bridge)
    return [
        ({"metric": "RouteMetric", "label": "Label"}[name], value) for name, value in zip(words[::2], words[1::2], strict=True)
    ]


def _every(gateway: str) -> str:
    return "::/0" if ":" in gateway else "0.0.0.0/0"
