"""A VM on a LAN's bridge sends little to its host: these rules. nft(8), bridge family.

The installer's rules see the mark of such packets later. Another program may change marks before, such as wg-quick(8), which gives
each packet the mark of its connection. So the bridge itself drops what is not allowed. Here no connections are tracked: that would
be those of all machines on the bridge. So these pass as answers:

    TCP       all but the first packet of a connection
    UDP       to a port from which the host sent to that address and port, within the last 3 minutes
    ICMP      answers to pings, and errors
    others    the installer's rules look at them, such as tunnels

A machine asks for an address of IPv6 before it takes it, and another one that has or wants it keeps it from that; RFC 4862, 5.4. The
host hears no such word of a VM, and VMs hear no such question of the host.

A host that forwards may be the LAN's router, so a packet for other machines passes.
"""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.agent.network.own_addresses import Protected
from nqrust.agent.network.own_table import chain

CHAIN = "own"
_FAMILIES = (
    ("ip", "ipv4_addr", "asked", "{ 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/3 }"),
    ("ip6", "ipv6_addr", "asked6", "{ ::/127, ff00::/8 }"),
)
"""Name in nft, type of an address, set, and addresses that are no other machine's."""


def chains(kept: Protected, relay: int) -> list[str]:
    """Return sets and chains for the packets that the bridge hands to the host. Pure."""
    lines, split = [], []
    for (family, kind, name, special), own in zip(_FAMILIES, (kept.of_host_v4 + kept.broadcasts, kept.of_host_v6), strict=True):
        key = f"type {kind} . inet_service . {kind} . inet_service; flags dynamic,timeout; timeout 3m; size 65535;"
        lines += [f"\tset {name} {{", f"\t\t{key}", "\t}"]
        split += [f"{family} daddr {listed} goto its" for listed in (special, *([f"{{ {', '.join(own)} }}"] if own else []))]
    return [*lines, *chain("its", _allowed(relay)), *chain(CHAIN, split)]


def _allowed(relay: int) -> list[str]:
    return [
        # The start of a packet in fragments is looked at, and without it the rest is none.
        "ip frag-off & 0x1fff != 0 accept",
        "frag frag-off != 0 accept",
        "icmp type { echo-reply, destination-unreachable, echo-request, time-exceeded, parameter-problem } accept",
        "icmpv6 type nd-neighbor-solicit ip6 saddr :: drop",
        "icmpv6 type nd-neighbor-advert ip6 daddr ff00::/8 drop",
        "icmpv6 type { 1-4, 128, 129, 133, 135, 136 } accept",  # errors, pings, neighbour discovery; RFC 4443, 4861
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        f"ip protocol tcp tcp dport {relay} accept",
        "tcp flags & (syn | rst | ack) != syn accept",
        *(f"{family} saddr . udp sport . {family} daddr . udp dport @{name} accept" for family, _, name, _ in _FAMILIES),
        "meta l4proto != { icmp, igmp, tcp, udp, icmpv6 } accept",
        "drop",
    ]


def questions(kept: Protected, taps: Iterable[str]) -> list[str]:
    """Return the rules for what the host sends to VMs: they remember it over UDP. Pure."""
    ports = ", ".join(f'"{tap}"' for tap in taps)
    found = [f"oifname {{ {ports} }} icmpv6 type nd-neighbor-solicit ip6 saddr :: drop"]
    for (family, _, name, _), own in zip(_FAMILIES, (kept.of_host_v4, kept.of_host_v6), strict=True):
        if own:
            key = f"{family} daddr . udp dport . {family} saddr . udp sport"
            found.append(f"oifname {{ {ports} }} {family} saddr {{ {', '.join(own)} }} update @{name} {{ {key} }}")
    return found
