"""Few fragments of packets from VMs: the host keeps each until its rest comes, or for half a minute (IPv6: a minute). nft(8), bridge
family.

The room for them is one for all networks of the host, and 4 MiB by default. When it is full, the host takes no packet in fragments
from anybody. It puts packets together before iptables(8) sees them, because it tracks connections. So the rules are those of the
bridge's ports, where a frame comes in.

The host counts the memory of a frame and not the length in its header. So a frame that is longer than a VM's network allows could
take the room of many. All VMs together get most of the room. ip-sysctl: ipfrag_high_thresh, ipfrag_time, ip6frag_time.
"""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.agent.network import own_table
from nqrust.host.errors import HostError
from nqrust.host.port import Host

CHAIN = "fragments"
A_SECOND, AT_ONCE = 10, 45
"""Of a VM. A packet of 64 KiB has 45 fragments."""
_LARGEST = 1500  # bytes: the MTU of a TAP
_MEMORY = 2560  # bytes that the kernel takes for a fragment of that size: 2504 with Linux 6.18
_ROOM, _SECONDS, _SECONDS_6 = 4 << 20, 30, 60
_KINDS = ("ip frag-off & 0x3fff != 0", "ip6 nexthdr { 0, 43, 44, 51, 60 }")
"""IPv6 has its fragment header (44), or one of those that may come before it."""
_OF_IPV4 = (("ipv4/ipfrag_high_thresh", "ipv4/ipfrag_time", _SECONDS),)
_OF_IPV6 = (
    ("ipv6/ip6frag_high_thresh", "ipv6/ip6frag_time", _SECONDS_6),
    ("netfilter/nf_conntrack_frag6_high_thresh", "netfilter/nf_conntrack_frag6_timeout", _SECONDS_6),
)
"""Each kind has a room of its own, and connection tracking one more of IPv6: bytes, seconds and their default."""


@dataclass(frozen=True)
class Allowed:
    """Of all VMs: fragments a second, after `at_once`."""

    a_second: int = 33
    at_once: int = 204


def of_all(host: Host, *, ipv6: bool = False) -> Allowed:
    """Return what the VMs may send: for as long as the host keeps it, it takes three quarters of the room. `ipv6`: the host takes
    packets of IPv6 from VMs, too."""
    kinds = [*_OF_IPV4, *(_OF_IPV6 if ipv6 else ())]
    room = min(_number(host, name, _ROOM) for name, _, _ in kinds)
    seconds = max(_number(host, name, otherwise) for _, name, otherwise in kinds)
    most = room * 3 // 4 // _MEMORY
    at_once = most // 6
    return Allowed(max(1, (most - at_once) // (seconds + 1)), max(1, at_once))


def _number(host: Host, name: str, otherwise: int) -> int:
    try:
        return int(host.read_text(f"/proc/sys/net/{name}"))
    except (HostError, ValueError):
        return otherwise


def few(condition: str = "") -> list[str]:
    """Return the rules for the chain of one port. `condition`: what else holds of the frames. Pure."""
    found = []
    for kind in _KINDS:
        found.append(f"{condition}{kind} limit rate over {A_SECOND}/second burst {AT_ONCE} packets drop")
        found.append(f"{condition}{kind} jump {CHAIN}")
    return found


def shared(allowed: Allowed) -> list[str]:
    """Return the chain that the fragments of all ports pass. Pure."""
    limit = f"limit rate over {allowed.a_second}/second burst {allowed.at_once} packets drop"
    return own_table.chain(CHAIN, [f"meta length > {_LARGEST} drop", limit])
