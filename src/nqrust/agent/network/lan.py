"""A filter for the ports of VMs on a bridge that the LAN shares. nft(8), bridge family.

The bridge is the administrator's, and other machines use it. So every rule names the TAP of a VM:

    from any port    only its VM's MAC, in requests to a DHCP server too; only IPv4, ARP and IPv6 without VLAN tags;
                     no DHCP server, no router advertisements, also in fragments;
                     no queries for members of multicast groups: a bridge hands multicasts on to those who answered, and the
                     host answers no VM. So one query would take neighbour discovery over IPv6 from the host
                     no packet for a cloud's metadata service, at a link-local address or elsewhere
    no packet in the name of this host or of its gateways on that bridge
    no packet for this host but to the bridge itself: a router of the LAN, or another card of the host, would lead it to the host
    past the filter below
    to this host     few new connections per second, and only what a VM may reach, see to_host.py. The packet gets a mark. The
                     installer's rules drop marked packets that are no answers, and the relay takes marked packets alone: other
                     machines of the LAN cannot use it

A VM has its address from the LAN's DHCP, so no rule ties it to one. Nothing passes the port of a VM without a record (ports.py).

Docker loads br_netfilter, which sends the frames of every bridge through FORWARD, and sets its policy to DROP. Only then the
frames of VMs are accepted there. Without br_netfilter no such rule is made: the match for ports would load that module.

It also has the host remember the connections of VMs to the LAN. Its table has room for few, and when it is full the host makes no
connections itself. So these frames, and their answers, are not tracked. nft(8), notrack
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Mapping

from nqrust.agent.errors import Failed
from nqrust.agent.network import fragments, own_addresses, own_chain, own_name, own_table, ports, to_host
from nqrust.agent.network.own_addresses import Protected
from nqrust.agent.network.own_table import chain
from nqrust.agent.network.ports import Ports
from nqrust.agent.store import VmRecord
from nqrust.contract.names import CLOUD_SERVICES, FORWARD_CHAIN, GUEST_RELAY_PORT, LAN_MARK, LINK_LOCAL
from nqrust.contract.text import word
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host

_FORWARD = ("filter", FORWARD_CHAIN, "FORWARD")
_FEW_NEW = (
    *(
        f"{what} limit rate over 100/second burst 300 packets drop"
        for what in (
            "icmp type echo-request",
            "icmpv6 type echo-request",
            "udp dport { 67, 547 }",
            "tcp flags & (fin | syn | rst | ack) == syn",
        )
    ),
    "icmpv6 type nd-neighbor-advert limit rate over 20/second burst 50 packets drop",
)
"""The host remembers each of these as a connection. A VM makes up its addresses, so the limit is that of its port. With many
neighbour advertisements it could guess the host's next address."""
_PIECES = (
    "icmpv6 type 133-137 drop",  # no receiver takes neighbour discovery in fragments; RFC 6980
    "frag frag-off != 0 return",
    "@th,0,8 >= 0 return",
    "drop",
)
"""Of packets of IPv6 in fragments: a first one without the header of its protocol hides from every other rule what it is."""
_PROGRAMS = ("iptables", "ip6tables")


class LanGuard:
    """`records` returns the records on disk. It runs under a lock, so that the last writer also writes the last table."""

    def __init__(self, host: Host, bridge: str, records: Callable[[], Iterable[VmRecord]], relay: int = GUEST_RELAY_PORT) -> None:
        self._host, self._bridge, self._records, self._relay = host, bridge, records, relay
        self._lock = threading.Lock()
        self._table = own_table.OwnTable(host)
        self.lacking = ""
        """Why frames of VMs may be lost in FORWARD; empty if nothing is wrong."""

    def sync(self) -> bool:
        """Filter the ports of the VMs that run or still have one, and no others. Return whether anything changed. Raises Failed: a VM does not
        start without its filter."""
        with self._lock:
            try:
                found = ports.look(self._host, self._records())
                changed = self._draw(found)
            except HostError as error:
                raise Failed(
                    "NQR-NET-712",
                    f"The filter for the VM's port on {self._bridge} could not be set ({error}).",
                    "Check that `nft list ruleset` works on this host, then start the VM again.",
                ) from error
            return self._pass_netfilter(found.vms) or changed

    def _draw(self, found: Ports) -> bool:
        """Tell in `lacking` what this kernel cannot do, and which ports are closed."""
        kept, macs, few = (
            own_addresses.protected(self._host, self._bridge),
            self._own_macs(),
            fragments.of_all(self._host, ipv6=True),
        )
        self.lacking = found.closed
        try:
            return self._table.fill(table(found, kept, macs, few, self._relay))
        except CommandFailed as error:
            if not macs:
                raise
            changed, self.lacking = self._table.fill(table(found, kept, few=few, relay=self._relay)), str(error)
            return changed

    def _own_macs(self) -> tuple[str, ...]:
        """Return the MACs of this host on the bridge, if br_netfilter has the host track the frames of VMs."""
        if not any(own_chain.netfilter(self._host, self._bridge, program) for program in _PROGRAMS):
            return ()
        net, found = "/sys/class/net", set()
        with contextlib.suppress(HostError):
            for link in (self._bridge, *self._host.listdir(f"{net}/{self._bridge}/brif")):
                found.add(word(self._host.read_text(f"{net}/{link}/address").strip()))
        return tuple(sorted(found))

    def _pass_netfilter(self, records: list[VmRecord]) -> bool:
        changed = False
        for program in _PROGRAMS:
            if self._host.which(program) is None:
                continue
            wanted = passing(self._bridge, records) if own_chain.netfilter(self._host, self._bridge, program) else []
            try:
                changed |= own_chain.draw(self._host, program, _FORWARD, wanted)
            except CommandFailed as error:
                self.lacking = self.lacking or (str(error) if wanted else "")
        return changed


def table(
    found: Ports,
    kept: Protected,
    own_macs: tuple[str, ...] = (),
    few: fragments.Allowed | None = None,
    relay: int = GUEST_RELAY_PORT,
) -> str:
    """Return input of nft(8) that replaces the table in one transaction. Pure.

    A client takes a DHCP answer by its destination port alone, so a VM sends to no client's port. A server believes the MAC in a
    request, which is 36 bytes behind the start of UDP; RFC 2131, 2. Of a neighbour advertisement or solicitation, bytes 8 to 24 are
    the address that it is about; RFC 4861, 4.3 and 4.4. A solicitation from no address says that its sender wants the address, so that
    nobody else takes it; RFC 4862, 5.4.3. `own_macs`: of this host, which tracks the frames for these MACs alone. Empty: nothing would
    track the others. `few`: fragments of all VMs for this host.
    """
    taps = {word(one.tap): word(one.mac) for one in found.vms}
    lines: list[str] = []
    if found:
        lines += [
            *chain("pieces", _PIECES),
            *chain("guest", _guest(kept)),
            *to_host.chains(kept, relay),
            *fragments.shared(few or fragments.Allowed()),
        ]
        for tap, mac in taps.items():
            own = own_name.own_mac(mac)
            # The MAC in a request may be in a later fragment, where no rule finds it.
            own += ["udp dport 67 ip frag-off & 0x3fff != 0 drop"]
            if own_macs:  # br_netfilter puts packets for the host together before the next hook
                own += fragments.few(f"ether daddr {{ {', '.join(own_macs)} }} ")
            own += [f"udp dport 67 @th,288,48 != {int(mac.replace(':', ''), 16):#x} drop", "goto guest"]
            lines += chain(f"vm-{tap}", own)
            lines += chain(f"host-{tap}", [*_FEW_NEW, *fragments.few(), f"meta mark set {LAN_MARK}", f"goto {to_host.CHAIN}"])
        hook = "type filter hook {} priority -250; policy accept;"
        untracked = _untracked(taps, own_macs)
        for name, place, kind in (("from-vms", "prerouting", "vm"), ("to-host", "input", "host")):
            jumps = own_table.by_port({tap: f"jump {kind}-{tap}" for tap in taps}, found.strange)
            lines += chain(name, [hook.format(place), jumps, *(untracked if place == "prerouting" else [])])
        lines += chain("from-host", [hook.format("output"), *(to_host.questions(kept, taps) if taps else [])])
    return own_table.text(lines)


def _untracked(taps: Mapping[str, str], own_macs: tuple[str, ...]) -> list[str]:
    if not (own_macs and taps):
        return []
    listed, hosts = ", ".join(f'"{tap}"' for tap in taps), ", ".join(own_macs)
    return [
        f"iifname {{ {listed} }} ether daddr != {{ {hosts} }} notrack",
        f"ether daddr {{ {', '.join(taps.values())} }} notrack",
    ]


def _guest(kept: Protected) -> list[str]:
    found = [
        "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop",  # no switch may act on these; see port_only.py
        "ether type != { ip, arp, ip6 } drop",
        "exthdr frag exists jump pieces",
        "udp sport { 67, 547 } drop",
        "udp dport { 68, 546 } drop",
        "icmpv6 type { nd-router-advert, nd-redirect, mld-listener-query } drop",
        # The bridge reads a query in a fragment, too, and no rule the start of a later one.
        "ip protocol igmp ip frag-off & 0x3fff != 0 drop",
        "ip protocol igmp @th,0,8 0x11 drop",
    ]
    found += [f"ip daddr {LINK_LOCAL} drop", *_clouds()]
    if kept.cards:
        found.append(f"ether daddr {{ {', '.join(kept.cards)} }} drop")
    # A router takes no broadcast, but another card of the host on this LAN does.
    past_it = f"ether daddr != {kept.mac} drop" if kept.mac else "drop"
    for family, addresses in (("ip", kept.of_host_v4), ("ip6", kept.of_host_v6)):
        if addresses:
            found.append(f"{family} daddr {{ {', '.join(addresses)} }} {past_it}")
    if kept.v4:
        listed = ", ".join(kept.v4)
        found += [f"ip saddr {{ {listed} }} drop", f"arp saddr ip {{ {listed} }} drop"]
    if kept.v6:
        found.append(f"ip6 saddr {{ {', '.join(kept.v6)} }} drop")
    for one in kept.v6:
        about = f"@th,64,128 {int(ipaddress.IPv6Address(one)):#x} drop"
        found += [f"icmpv6 type nd-neighbor-advert {about}", f"icmpv6 type nd-neighbor-solicit ip6 saddr :: {about}"]
    if kept.mac:  # the second half of every address that the host makes of its MAC; RFC 4291, appendix A
        about = f"@th,128,64 {_made_of(kept.mac)} drop"
        found += [f"icmpv6 type nd-neighbor-advert {about}", f"icmpv6 type nd-neighbor-solicit ip6 saddr :: {about}"]
    return found


def _clouds() -> list[str]:
    """Name servers apart, the services of a cloud are for the machine that the host is."""
    found = []
    for family, six in (("ip", False), ("ip6", True)):
        listed = ", ".join(one for one in CLOUD_SERVICES if (":" in one) is six)
        found.append(f"{family} daddr {{ {listed} }} tcp dport != 53 drop")
    return found


def _made_of(mac: str) -> str:
    octets = bytes.fromhex(mac.replace(":", ""))
    return f"{int.from_bytes(bytes([octets[0] ^ 2]) + octets[1:3] + bytes.fromhex('fffe') + octets[3:], 'big'):#x}"


def passing(bridge: str, records: Iterable[VmRecord]) -> list[own_chain.Rule]:
    """Return rules that accept the frames of these VMs, in the form of `iptables -S`. Pure."""
    found: list[own_chain.Rule] = []
    for one in records:
        for side in ("in", "out"):
            port = ("-m", "physdev", f"--physdev-{side}", word(one.tap), "--physdev-is-bridged")
            found.append(("-i", bridge, "-o", bridge, *port, "-j", "ACCEPT"))
    return found
