"""NetworkManager(8): two connection profiles that it prefers to the card's own one, which stays.

A profile with a higher connection.autoconnect-priority wins at boot (nm-settings-keyfile(5)). The DHCP client's identifier
goes into the bridge's profile, since NetworkManager may make it from the profile or the name of the link.
"""

from __future__ import annotations

import re
import uuid

from nqrust.host.errors import HostError
from nqrust.host.facts.nic import Nic
from nqrust.host.port import Host, command
from nqrust.installer.uplink.model import (
    MARK,
    Owner,
    Refused,
    added,
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

FOLDER = "/etc/NetworkManager/system-connections"
_NOT_RUNNING, _NO_DEVICE = 8, 10  # exit codes, nmcli(1)
_BRIDGES_CONNECTION = ("zone", "metered", "mdns", "llmnr", "dns-over-tls", "stable-id", "permissions", "gateway-ping-timeout")
_IDENTITY = ("dhcp-client-id", "dhcp-iaid", "dhcp-duid")
_HIGHEST = 999


class NetworkManager:
    """NetworkManager with profiles of the administrator, or the one that it made itself for a new card."""

    name = "NetworkManager"

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        found = active(host, nic)
        if found is None:
            return None
        path = profile_file(host, found)
        return Owner(self, (path,) if path else ()) if self.mine(path) else None

    def mine(self, path: str) -> bool:
        return not is_netplan(path)

    def change(self, host: Host, nic: Nic, bridge: str) -> NetworkChange:
        found = active(host, nic) or ""
        path = profile_file(host, found)
        content = readable(host, path) if path else None
        if content is None or not path.endswith(".nmconnection"):
            raise Refused(
                "NQR-NET-156",
                f"The profile of {nic.name} is in {path or 'no file'}, and only keyfiles can be copied.",
                f"Run `nmcli connection migrate {found}`, then run the same command again.",
            )
        sections = parse(content)
        type_ = next((s.last("type") for s in sections if s.name == "connection"), "")
        if type_ not in ("ethernet", "802-3-ethernet"):
            raise Refused(
                "NQR-NET-155",
                f"{nic.name} has a profile of type {type_ or 'unknown'}, which nqr cannot put into a bridge.",
                f"Make a bridge on {nic.name} yourself, and name it with --bridge-name.",
            )
        other = "" if _names_a_card(sections) else _free_card(host, nic)
        if other:
            raise Refused(
                "NQR-NET-156",
                f"The profile of {nic.name} names no card, so NetworkManager would give its addresses to {other}.",
                f"Run `nmcli connection modify {found} connection.interface-name {nic.name}`, then run the same command again.",
            )
        kept = path.startswith("/etc/")
        return change(host, nic, bridge, found if kept else "", sections)


def is_netplan(path: str) -> bool:
    return path.startswith("/run/NetworkManager/system-connections/netplan-")


def _names_a_card(sections: list[Section]) -> bool:
    said = {"connection": "interface-name", "ethernet": "mac-address", "802-3-ethernet": "mac-address"}
    return any(s.name == "match" or (s.name in said and s.last(said[s.name])) for s in sections)


def _free_card(host: Host, nic: Nic) -> str:
    """Return another card that has no profile and could get this one, or ""."""
    shown = host.run(command("nmcli", "-t", "-e", "no", "-f", "TYPE,STATE,DEVICE", "device", timeout=15)).stdout
    for line in shown.splitlines():
        kind, _, rest = line.partition(":")
        state, _, name = rest.partition(":")
        if kind == "ethernet" and state in ("disconnected", "unavailable") and name != nic.name:
            return name
    return ""


def active(host: Host, nic: Nic) -> str | None:
    """Return the UUID of the profile that is active on the card, or None if NetworkManager leaves the card alone."""
    if host.which("nmcli") is None:
        return None
    try:
        wanted = "GENERAL.STATE,GENERAL.CON-UUID"
        shown = host.run(
            command(
                "nmcli", "-t", "-e", "no", "-f", wanted, "device", "show", nic.name, ok=(0, _NOT_RUNNING, _NO_DEVICE), timeout=15
            )
        )
    except HostError:
        return None
    values = dict(line.partition(":")[::2] for line in shown.stdout.splitlines())
    # "connected (externally)": another program configured the card, and NetworkManager only watches.
    if shown.code or not values.get("GENERAL.STATE", "").startswith("100") or "externally" in values["GENERAL.STATE"]:
        return None
    return values.get("GENERAL.CON-UUID") or None


def profile_file(host: Host, profile: str) -> str:
    """Return the file of a profile, or ""."""
    shown = host.run(command("nmcli", "-t", "-e", "no", "-f", "UUID,FILENAME", "connection", "show", timeout=15)).stdout
    return next((line.partition(":")[2] for line in shown.splitlines() if line.partition(":")[0] == profile), "")


def change(host: Host, nic: Nic, bridge: str, old: str, sections: list[Section]) -> NetworkChange:
    """Return the change for a card with this profile. `old`: its UUID, "" if the profile is not in a lasting file."""
    connection = next((s for s in sections if s.name == "connection"), Section("connection"))
    priority = _priority(nic, connection)
    of_bridge = uuid.uuid5(uuid.NAMESPACE_DNS, f"bridge.{bridge}.{nic.mac}.nqrust")
    of_port = uuid.uuid5(uuid.NAMESPACE_DNS, f"port.{nic.name}.{nic.mac}.nqrust")
    first = Section(
        "connection",
        [
            ("id", f"nqrust-{bridge}"),
            ("uuid", str(of_bridge)),
            ("type", "bridge"),
            ("interface-name", bridge),
            ("autoconnect-priority", priority),
            ("autoconnect-slaves", "1"),
            *((n, v) for n, v in connection.entries if n in _BRIDGES_CONNECTION),
        ],
    )
    bridged = [
        first,
        Section("ethernet", [("cloned-mac-address", nic.mac), ("mtu", str(nic.mtu))]),
        Section("bridge", [("stp", "false"), ("forward-delay", "0")]),
        *_addressing(host, nic, bridge, sections),
    ]
    port = [
        Section(
            "connection",
            [
                ("id", f"nqrust-{nic.name}"),
                ("uuid", str(of_port)),
                ("type", "ethernet"),
                ("interface-name", nic.name),
                ("autoconnect-priority", priority),
                ("master", bridge),
                ("slave-type", "bridge"),
                *((n, v) for n, v in connection.entries if n == "lldp"),
            ],
        ),
        _ethernet(nic, sections),
        *(s for s in sections if s.name in ("802-1x", "ethtool", "dcb", "link", "sriov", "tc")),
    ]
    files = [
        added(host, f"{FOLDER}/nqrust-{bridge}.nmconnection", render(bridged, head=MARK), mode=0o600),
        added(host, f"{FOLDER}/nqrust-{nic.name}.nmconnection", render(port, head=MARK), mode=0o600),
    ]
    take = ["nmcli", "connection", "load", *(f.path for f in files)]
    load = [take, ["nmcli", "--wait", "30", "connection", "up", "uuid", str(of_port)]]
    # A bridge that somebody made with ip(8) is "connected (externally)", so a port alone does not bring its profile up. Its end
    # is not waited for: it needs the port.
    again = [take, ["nmcli", "--wait", "0", "connection", "up", "uuid", str(of_bridge)], *load[1:]]
    # A profile that names no card would fit another one, too.
    back = ["connection", "up", "uuid", old, "ifname", nic.name] if old else ["device", "connect", nic.name]
    restore = [["nmcli", "connection", "reload"], remove_bridge(nic, bridge), ["nmcli", "--wait", "60", *back]]
    restore += own_frames_only(nic)
    return make(nic, bridge, files, load, restore, again)


def _priority(nic: Nic, connection: Section) -> str:
    said = connection.last("autoconnect-priority")
    old = int(said) if re.fullmatch(r"-?\d{1,3}", said) else 0
    if old >= _HIGHEST:
        raise Refused(
            "NQR-NET-156",
            f"The profile of {nic.name} has the highest autoconnect-priority, {old}.",
            f"Lower it (nmcli connection modify {connection.last('uuid')} connection.autoconnect-priority 0).",
        )
    return str(max(old + 1, 100))


def _ethernet(nic: Nic, sections: list[Section]) -> Section:
    """Return the card's own settings: which card, its MAC, wake-on-lan and the like. It takes every frame, for the bridge."""
    old = next((s for s in sections if s.name in ("ethernet", "802-3-ethernet")), Section("ethernet"))
    kept = [(n, v) for n, v in old.entries if n not in ("mtu", "accept-all-mac-addresses")]
    return Section("ethernet", [*kept, ("mtu", str(nic.mtu)), ("accept-all-mac-addresses", "1")])


def _addressing(host: Host, nic: Nic, bridge: str, sections: list[Section]) -> list[Section]:
    """Return the profile's addresses, routes, rules and name servers, for the bridge, with the identity of its leases."""
    found = []
    for section in sections:
        if section.name in ("ipv4", "ipv6"):
            entries = [(n, renamed(v, nic.name, bridge) if n.startswith("routing-rule") else v) for n, v in section.entries]
            found.append(Section(section.name, entries))
        elif section.name == "proxy":
            found.append(section)
    for family in ("ipv4", "ipv6"):
        if not any(s.name == family for s in found):
            found.append(Section(family, [("method", "auto")]))
    four = next(s for s in found if s.name == "ipv4")
    six = next(s for s in found if s.name == "ipv6")
    if nic.dhcp and four.last("method") == "auto" and not _lease(host, nic, "DHCP4").strip():
        raise without_lease(nic, f"nmcli -f DHCP4 device show {nic.name}")
    for section, own in ((four, identity4(host, nic)), (six, identity6(host, nic))):
        if (own and section.last("method") == "auto") or section.last("method") == "dhcp":
            section.entries = [(n, v) for n, v in section.entries if n not in _IDENTITY or n not in dict(own)] + own
    token = slaac_token(nic)
    if token:  # a stable private address depends on the link's name
        six.entries = [(n, v) for n, v in six.entries if n not in ("addr-gen-mode", "token")]
        six.entries += [("addr-gen-mode", "eui64"), ("token", token)]
    for section, ipv6 in ((four, False), (six, True)):
        metric = _metric(nic, ipv6=ipv6)
        if metric and not section.values("route-metric"):  # a bridge's routes have another metric than a card's
            section.entries.append(("route-metric", metric))
    _by_hand(nic, four, six)
    return found


def _metric(nic: Nic, *, ipv6: bool) -> str:
    """Return the metric of the routes that the profile gave the card, or ""."""
    routes = [
        r for r in nic.routes if r.ipv6 == ipv6 and r.metric is not None and r.table == "main" and r.destination[:5] != "fe80:"
    ]
    first = sorted(routes, key=lambda r: (r.destination != "default", r.protocol != "kernel"))
    return str(first[0].metric) if first else ""


def identity4(host: Host, nic: Nic) -> list[tuple[str, str]]:
    found = re.search(r"dhcp_client_identifier = ([0-9a-f:]+)$", _lease(host, nic, "DHCP4"), re.MULTILINE | re.IGNORECASE)
    return [("dhcp-client-id", found[1])] if found else []


def identity6(host: Host, nic: Nic) -> list[tuple[str, str]]:
    said = _lease(host, nic, "DHCP6")
    duid = re.search(r"dhcp6_client_id = ([0-9a-f:]+)$", said, re.MULTILINE | re.IGNORECASE)
    iaid = re.search(r" iaid = ([0-9a-f:]+)$", f" {said}", re.MULTILINE | re.IGNORECASE)
    return ([("dhcp-duid", duid[1])] if duid else []) + ([("dhcp-iaid", iaid[1])] if iaid else [])


def _lease(host: Host, nic: Nic, family: str) -> str:
    try:
        shown = host.run(command("nmcli", "-t", "-e", "no", "-f", family, "device", "show", nic.name, timeout=15)).stdout
    except HostError:
        return ""
    return "\n".join(f" {line.partition(':')[2]}" for line in shown.splitlines())


def _by_hand(nic: Nic, four: Section, six: Section) -> None:
    """Add addresses and routes that somebody gave the card with ip(8)."""
    for section, ipv6 in ((four, False), (six, True)):
        listed = [v for n, v in section.entries if re.fullmatch(r"address(es)?\d*", n)]
        configured = [v.split(",")[0] for v in listed]
        gateways = [section.last("gateway"), *(v.split(",")[1] for v in listed if "," in v)]
        every = "::/0" if ipv6 else "0.0.0.0/0"
        routes = [(every, gateway.strip()) for gateway in gateways if gateway.strip()]
        for name, value in section.entries:
            if re.fullmatch(r"routes?\d*", name):
                parts = [part.strip() for part in value.split(",")]
                routes.append((parts[0], parts[1] if len(parts) > 1 and parts[1] not in ("0.0.0.0", "::") else ""))
        if section.last("method") in ("disabled", "ignore", "link-local", "shared"):
            continue
        new = [a for a in unexplained_addresses(nic, configured) if a.ipv6 == ipv6]
        section.entries += [(f"address{index}", a.cidr) for index, a in enumerate(new, _free(section, "address"))]
        first = _free(section, "route")
        for index, route in enumerate((r for r in unexplained_routes(nic, routes) if r.ipv6 == ipv6), first):
            destination = every if route.destination == "default" else route.destination
            metric = f",{route.metric}" if route.metric is not None else ""
            section.entries.append((f"route{index}", f"{destination},{route.gateway or ('::' if ipv6 else '0.0.0.0')}{metric}"))
            options = [f"table={route.table}"] if route.table != "main" else []
            options += ["onlink=true"] if route.onlink else []
            options += [f"src={route.source}"] if route.source else []
            section.entries += [(f"route{index}_options", ",".join(options))] if options else []


def _free(section: Section, name: str) -> int:
    """Return the first number that no `address` or `route` of a keyfile has."""
    return 1 + max((int(found[1]) for n, _ in section.entries if (found := re.match(rf"{name}(\d+)", n))), default=0)
