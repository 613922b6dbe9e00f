"""The address that each VM may send from, and the name in which it asks for one. The host drops other packets as they come in.
iptables-extensions(8): mac, u32, hashlimit.

The installer's rules bound each guest's use of the host by its address. A guest that sent from the address of a neighbour
would use up the share of that neighbour. The bridge port accepts the VM's own MAC only (taps.py); this chain ties the MAC to
the address. The chain lets other machines through: an administrator may have put them on the bridge.

A DHCP server believes the MAC inside a request (chaddr; RFC 2131, 2), whoever sends it. A guest that declines a neighbour's
address keeps it from that neighbour for minutes. So each VM asks in its own name alone. It asks a few times a second: the server
works for all guests, and writes each request into the host's log.

Where something has loaded br_netfilter, such as Docker, the host remembers a broadcast as a connection before any rule of INPUT
drops it. A guest that broadcasts would fill the table that all connections of the host are in. So broadcasts are not tracked, and
no IPv6 of guests: the host itself speaks none with them. iptables-extensions(8): CT, pkttype.

The packets of guests leave with the address of their host. A manager and an agent elsewhere give each address a share of the
connections that they begin. So all guests together begin few to such a port: their host needs the rest of its share.

All these rules name the bridge. A packet that comes from a TAP itself is dropped first (port_only.py): an address of a guest's
choice, such as none with a broadcast, passes the host's own check of sources.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping

from nqrust.agent.network import own_chain, ports
from nqrust.agent.store import VmRecord
from nqrust.contract.names import SOURCE_CHAIN
from nqrust.contract.text import word
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host

_ASKS_A_SECOND, _ASKS_AT_ONCE = 10, 30
_BEGINS_A_SECOND, _BEGINS_AT_ONCE = 10, 20
"""Connections of all guests to a port of the platform on one other machine: less than half of what its server begins for a source."""
_NAME = "nqr-{}"
"""Of the kernel's table for one VM, with the last four bytes of its MAC: a name has at most 15 characters."""


class Sources:
    """`records`: what is on disk now; asked under a lock, so that the last writer draws the last picture. `peers`: the ports of managers and
    agents on other machines."""

    def __init__(self, host: Host, bridge: str, records: Callable[[], Iterable[VmRecord]], peers: Collection[int] = ()) -> None:
        self._host, self._bridge, self._records, self._peers = host, bridge, records, peers
        self._lock = threading.Lock()
        self._six = True  # rules of IPv6 may be there
        self.lacking = ""
        """Why this kernel cannot do it; empty when it can."""

    def sync(self) -> bool:
        """The chain is as the records say; whether anything had to be changed. A VM runs without what the kernel cannot do:
        `lacking` tells then."""
        if self._host.which("iptables") is None:
            return False
        with self._lock:
            found = ports.look(self._host, self._records())
            ported, self.lacking = found.vms, ""
            addresses = [*without_record(self._bridge, found.strange), *rules(self._bridge, ported)]
            asks = asking(self._bridge, ported)
            casts = self._untracked("iptables", ported)
            few = beginning(self._bridge, self._peers) if ported else []
            choices: list[list[tuple[str, ...]]] = [[*casts, *few, *asks], [*few, *asks], [*casts, *few], few, casts, []]
            less = [some for number, some in enumerate(choices) if some not in choices[:number]]
            past = past_the_bridge([*(one.tap for one in ported), *found.strange])
            changed = self._draw("iptables", *([*past, *some, *addresses] for some in less), past)
            six = self._untracked("ip6tables", ported)
            if (six or self._six) and self._host.which("ip6tables") is not None:
                changed |= self._draw("ip6tables", six)
                self._six = bool(six)
            return changed

    def _untracked(self, program: str, ported: list[VmRecord]) -> list[tuple[str, ...]]:
        return untracked(self._bridge, program) if ported and own_chain.netfilter(self._host, self._bridge, program) else []

    def _draw(self, program: str, *wanted: list[tuple[str, ...]]) -> bool:
        """Draw the first of `wanted` that this kernel takes."""
        for rules in wanted:
            try:
                return own_chain.draw(self._host, program, SOURCE_CHAIN, rules)
            except CommandFailed as error:
                if rules:
                    self.lacking = str(error)
        return False


def rules(bridge: str, records: Iterable[VmRecord]) -> list[tuple[str, ...]]:
    """As `iptables -S` prints them, for VMs with a port on the bridge. Pure. A VM without an address yet asks for one from
    0.0.0.0; RFC 2131."""
    found: list[tuple[str, ...]] = []
    for one in sorted(records, key=lambda record: record.id):
        if one.ip:
            source, mac = f"{word(one.ip)}/32", word(one.mac)
            found.append(("-s", source, "-i", bridge, "-m", "mac", "!", "--mac-source", mac, "-j", "DROP"))
            found.append(("!", "-s", source, "-i", bridge, "-m", "mac", "--mac-source", mac, "-j", "DROP"))
    asks = ("-s", "0.0.0.0/32", "-i", bridge, "-p", "udp", "-m", "udp", "--sport", "68", "--dport", "67", "-j", "RETURN")
    return [asks, *found] if found else []


def without_record(bridge: str, strange: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the rules for VMs whose record nobody can read, in the same form: nothing of theirs passes. Pure."""
    return [("-i", bridge, "-m", "mac", "--mac-source", word(mac), "-j", "DROP") for mac in strange.values()]


def past_the_bridge(taps: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the rules for packets of the TAPs themselves, in the same form. Pure. Frames of their bridge have its name, with
    br_netfilter too."""
    return [("-i", word(tap), "-j", "DROP") for tap in taps]


def untracked(bridge: str, program: str) -> list[tuple[str, ...]]:
    """Return the rules for what the host does not track, in the same form. Pure."""
    kinds = [("-m", "pkttype", "--pkt-type", kind) for kind in ("broadcast", "multicast")] if program == "iptables" else [()]
    return [("-i", bridge, *kind, "-j", "CT", "--notrack") for kind in kinds]


def asking(bridge: str, records: Iterable[VmRecord]) -> list[tuple[str, ...]]:
    """Return the rules for requests to a DHCP server, in the same form. Pure."""
    found: list[tuple[str, ...]] = []
    above = ("--hashlimit-above", f"{_ASKS_A_SECOND}/sec", "--hashlimit-burst", str(_ASKS_AT_ONCE))
    for one in sorted(records, key=lambda record: record.id):
        mac = word(one.mac)
        asks = ("-i", bridge, "-p", "udp", "-m", "udp", "--dport", "67", "-m", "mac", "--mac-source", mac)
        name = _NAME.format(mac.replace(":", "")[-8:])
        found.append((*asks, "-m", "u32", "!", "--u32", _asks_as(mac), "-j", "DROP"))
        found.append((*asks, "-m", "hashlimit", *above, "--hashlimit-name", name, "-j", "DROP"))
    return found


def beginning(bridge: str, peers: Collection[int]) -> list[tuple[str, ...]]:
    """Return the rules for connections that guests begin to the platform elsewhere, in the same form. Pure."""
    above = ("--hashlimit-above", f"{_BEGINS_A_SECOND}/sec", "--hashlimit-burst", str(_BEGINS_AT_ONCE))
    few = ("-m", "hashlimit", *above, "--hashlimit-mode", "dstip", "--hashlimit-name")
    found: list[tuple[str, ...]] = []
    for port in sorted(peers):
        begins = ("-p", "tcp", "-m", "tcp", "--dport", str(port), "--tcp-flags", "FIN,SYN,RST,ACK", "SYN")
        found.append(("-i", bridge, *begins, *few, _NAME.format(port), "-j", "DROP"))
    return found


def _asks_as(mac: str) -> str:
    """Return what u32 compares: four and two bytes at 36, from the end of the IP header on. Before them are 8 bytes of UDP."""
    number = int(mac.replace(":", ""), 16)
    end_of_ip = "0x0>>0x16&0x3c"
    return f"{end_of_ip}@0x24={number >> 16:#x}&&{end_of_ip}@0x28>>0x10={number & 0xFFFF:#x}"
