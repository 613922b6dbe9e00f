"""ifupdown(8): one added file. Stanzas of one interface add up and cannot be overridden, so a mapping leads the card to an
empty one instead: `ifup eth0` asks the mapping first, then brings the card up as what it names (interfaces(5)).

The bridge is made with ip(8): bridge-utils, which brings the option bridge_ports, may be missing.
"""

from __future__ import annotations

import re

from nqrust.host.errors import HostError
from nqrust.host.facts.nic import Nic
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command
from nqrust.installer.uplink.interfaces import MAIN, Stanza, is_hook, read, sourced
from nqrust.installer.uplink.model import (
    MARK,
    Owner,
    Refused,
    added,
    label_and_metric,
    make,
    renamed,
    slaac_token,
    unexplained_addresses,
    unexplained_routes,
)
from nqrust.installer.verbs.network import leases
from nqrust.installer.verbs.network.guard.change import FileChange, NetworkChange, file_change

FOLDER = "/etc/network/interfaces.d"
STATE = "/run/network/ifstate"
PORT = "nqrust"
"""Start of the logical names of the card and of its aliases."""
_NICS_OPTIONS = re.compile(r"(offload-|ethernet-|link-|hardware-|wpa-|hwaddress$|mtu$|ethtool)")


class Ifupdown:
    """ifupdown, Debian's own."""

    name = "ifupdown"

    def owns(self, host: Host, nic: Nic) -> Owner | None:
        if host.which("ifup") is None or nic.name not in state(host):
            return None
        logical = state(host)[nic.name]
        return Owner(self, tuple(dict.fromkeys(s.path for s in _of(read(host), logical))))

    def change(self, host: Host, nic: Nic, bridge: str) -> NetworkChange:
        stanzas = read(host)
        logical = state(host).get(nic.name, nic.name)
        own = _of(stanzas, logical)
        _refuse(host, nic, stanzas, own)
        aliases = [s for s in stanzas if s.word == "iface" and s.rest and s.rest[0].startswith(f"{nic.name}:")]
        path = f"{FOLDER}/nqrust-{bridge}"
        files = [added(host, path, _file(nic, bridge, own, aliases))]
        if not sourced(host, path):
            old = text(host, MAIN)
            files.append(added(host, MAIN, f"{old.rstrip()}\n\n{MARK.replace('file', 'line')}\nsource {path}\n"))
        files += _leases(host, nic, bridge)
        names = [nic.name, *dict.fromkeys(s.rest[0] for s in aliases)]
        forget = _forget_rules([*own, *aliases])
        load = [["/bin/sh", "-c", f"{_stop_clients(nic.name)}{forget}"]]
        load += [["ifup", "--force", name] for name in names]
        load.append(["ifup", bridge])
        restore = [["/bin/sh", "-c", f"{_stop_clients(bridge)}{forget}; {_take_down(nic, bridge)}"]]
        restore += [["ifup", "--force", name] for name in names]
        return make(nic, bridge, files, load, restore)


def state(host: Host) -> dict[str, str]:
    """Return the interfaces that ifupdown brought up: physical name -> logical name."""
    return dict(line.partition("=")[::2] for line in text(host, STATE).splitlines() if "=" in line)


def _of(stanzas: list[Stanza], logical: str) -> list[Stanza]:
    return [s for s in stanzas if s.word == "iface" and s.rest[:1] == [logical]]


def _refuse(host: Host, nic: Nic, stanzas: list[Stanza], own: list[Stanza]) -> None:
    cure = f"Make a bridge with {nic.name} in {MAIN} yourself, and name it with --bridge-name."
    why: str | None = None
    if any(s.word in ("rename", "template") or (s.word == "mapping" and _mapped(s, nic.name)) for s in stanzas):
        why = f"{MAIN} renames or maps {nic.name}, or has templates."
    elif any("inherits" in s.rest for s in own):
        why = f"{nic.name} inherits from another stanza in {own[0].path}."
    elif any(len(s.rest) < 3 or s.rest[1] not in ("inet", "inet6") for s in own) or not own:
        why = f"No stanza of {MAIN} that nqr can read configures {nic.name}."
    elif any(n.startswith(("bond-", "bond_", "vlan-", "vlan_", "bridge_", "bridge-", "wpa-")) for s in own for n, _ in s.options):
        why = f"{nic.name} is a bond, a VLAN, a bridge or a wireless card in {own[0].path}."
    elif _is_ifupdown2(host):
        why = "ifupdown2 is installed, and it reads no mappings."
    if why is not None:
        raise Refused("NQR-NET-156", why, cure)


def _leases(host: Host, nic: Nic, bridge: str) -> list[FileChange]:
    """Return the clients' lease files for the bridge. ifupdown has one for each interface, and each has an identifier of its own
    (dhclient.leases(5), default-duid). A client without a lease would also wait for an offer."""
    found = []
    for kind in ("dhclient", "dhclient6"):
        old = text(host, leases.of(kind, nic.name))
        if old:
            new = leases.handed_on(old, nic.name, bridge)
            found.append(added(host, leases.of(kind, bridge), f"{MARK}\n{new}"))
    for own, new_path in zip(leases.of_dhcpcd(nic.name), leases.of_dhcpcd(bridge), strict=True):
        if host.exists(own):
            found.append(file_change(host, new_path, host.read_bytes(own), mode=leases.DHCPCD_MODE))
    return found


def _mapped(mapping: Stanza, nic: str) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", ".*").replace(r"\?", "."), nic) for one in mapping.rest)


def _is_ifupdown2(host: Host) -> bool:
    try:
        return "ifupdown2" in host.run(command("ifup", "--version", ok=(0, 1, 2), timeout=10)).stdout
    except HostError:
        return False


def _file(nic: Nic, bridge: str, own: list[Stanza], aliases: list[Stanza]) -> str:
    lines = [MARK, f"# {nic.name} becomes a port of {bridge}, which has all that {nic.name} had. Its own stanzas stay.", ""]
    for name in [nic.name, *dict.fromkeys(s.rest[0] for s in aliases)]:
        # ifupdown runs `grep NAME` with the lines of the map as input: its answer is the logical name.
        lines += [f"mapping {name}", "    script grep", f"    map {PORT}-{name}", "", f"iface {PORT}-{name} inet manual"]
        lines += [*(_port(nic, own) if name == nic.name else []), ""]
    return "\n".join([*lines, *_bridge(nic, bridge, own, aliases)])


def _port(nic: Nic, own: list[Stanza]) -> list[str]:
    lines = [f"    pre-up ip link set dev {nic.name} address {nic.mac}"] if nic.permanent_mac not in ("", nic.mac) else []
    lines += [f"    {n} {v}" for s in own for n, v in s.options if _is_of_nic(n, v) and n not in ("hwaddress", "mtu")]
    return [*lines, f"    up ip link set dev {nic.name} up"]


def _is_of_nic(name: str, value: str) -> bool:
    return bool(_NICS_OPTIONS.match(name)) or (is_hook(name) and "ethtool" in value)


def _bridge(nic: Nic, bridge: str, own: list[Stanza], aliases: list[Stanza]) -> list[str]:
    lines = [f"auto {bridge}"]
    for index, stanza in enumerate([*own, *aliases]):
        lines.append(f"iface {bridge} {' '.join(stanza.rest[1:])}")
        lines += [f"    {line}" for line in (_hooks(nic, bridge) if index == 0 else ())]
        for name, value in stanza.options:
            if not _is_of_nic(name, value):
                value = (
                    renamed(re.sub(rf"{re.escape(nic.name)}:\w+", nic.name, value), nic.name, bridge) if is_hook(name) else value
                )
                lines.append(f"    {name} {value}")
        lines += [f"    {line}" for line in (_by_hand(nic, bridge, [*own, *aliases]) if index == 0 else ())]
    return [*lines, ""]


def _hooks(nic: Nic, bridge: str) -> list[str]:
    """Return the hooks that make the bridge, once, before it gets an address."""
    off = f"/proc/sys/net/ipv6/conf/{nic.name}/disable_ipv6"
    router = f"/proc/sys/net/ipv6/conf/{bridge}/accept_ra"
    new = f"name {bridge} address {nic.mac} mtu {nic.mtu} type bridge stp_state 0 forward_delay 0"
    hooks = [
        f"pre-up [ -e /sys/class/net/{bridge} ] || ip link add {new}",
        f"pre-up n=0; until [ -e /sys/class/net/{nic.name} ] || [ $n = 20 ]; do n=$((n+1)); sleep 0.5; done",
        f"pre-up [ ! -e {off} ] || echo 1 >{off}",
        f"pre-up ip address flush dev {nic.name}",
        f"pre-up ip link set dev {nic.name} mtu {nic.mtu} promisc on master {bridge} up",
    ]
    if nic.accept_ra not in ("", "1"):
        hooks.append(f"pre-up [ ! -e {router} ] || echo {nic.accept_ra} >{router}")
    token = slaac_token(nic)
    if token and nic.accept_ra != "0":  # a client such as dhcpcd reads advertisements itself, and the kernel takes no token
        hooks.append(f"pre-up ip token set {token} dev {bridge}")
    return [*hooks, f"post-down ip link set dev {nic.name} nomaster promisc off", f"post-down ip link delete dev {bridge}"]


def _by_hand(nic: Nic, bridge: str, stanzas: list[Stanza]) -> list[str]:
    """Return hooks for addresses and routes that somebody gave the card with ip(8)."""
    hooks = " ".join(value for s in stanzas for name, value in s.options if is_hook(name)).split()
    addresses = [v for s in stanzas for v in s.values("address")] + hooks
    routes = [("::/0" if ":" in v else "0.0.0.0/0", v) for s in stanzas for v in s.values("gateway")]
    lines = [
        f"up ip address replace {' '.join((*a.words, 'dev', bridge, *label_and_metric(a, bridge)))}"
        for a in unexplained_addresses(nic, addresses)
    ]
    for route in unexplained_routes(nic, routes):
        if route.destination in hooks or (route.gateway and route.gateway in hooks):
            continue
        words = route.words(bridge)
        lines.append(f"up ip {words[0]} route replace {' '.join(words[1:])}")
    return lines


def _stop_clients(name: str) -> str:
    """Return shell that ends the DHCP clients of an interface so that they give no lease back: SIGKILL, or dhcpcd's -x."""
    files = " ".join(f"/run/{client}.{name}.pid" for client in ("dhclient", "dhclient6", "udhcpc"))
    return (
        f"for file in {files}; do pid=$(cat $file 2>/dev/null) || continue; "
        "case $(cat /proc/$pid/comm 2>/dev/null) in dhclient|udhcpc|busybox) kill -KILL $pid;; esac; done; "
        f"! command -v dhcpcd >/dev/null || dhcpcd -x {name} 2>/dev/null || :"
    )


def _forget_rules(stanzas: list[Stanza]) -> str:
    """Return shell that deletes the policy rules that hooks add: they are no card's, and a second `ip rule add` fails."""
    hooks = [value for s in stanzas for name, value in s.options if name in ("pre-up", "up", "post-up")]
    found = [match for value in hooks if (match := re.search(r"\bip( -[46])? rule add ([^;&|]+)", value))]
    return "".join(f"; ip{match[1] or ''} rule del {match[2].strip()} 2>/dev/null || :" for match in found)


def _take_down(nic: Nic, bridge: str) -> str:
    off = f"/proc/sys/net/ipv6/conf/{nic.name}/disable_ipv6"
    promiscuous = "" if nic.promiscuous else " promisc off"
    return (
        f"ip link set dev {nic.name} nomaster{promiscuous} || :; ip link delete dev {bridge} 2>/dev/null || :; "
        f"[ ! -e {off} ] || echo {nic.ipv6_off or 0} >{off}; "
        f"rm -f {STATE}.{bridge}; [ ! -e {STATE} ] || sed -i '/^{bridge}=/d' {STATE}"
    )
