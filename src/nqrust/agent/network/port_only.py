"""A TAP is a port of the bridge, and nothing more to the host. ip-sysctl, linux/if_bridge.h

The bridge hands some frames to the host as if no bridge were there: those to the addresses 01:80:c2:00:00:00 to 0f, also if they
carry IP (IEEE 802.1D, 7.12.6). It does so past its own filters and the lock of the port. Rules that name the bridge do not see
them either. So each port tells the bridge to forward these frames like others. The kernel always drops one kind, PAUSE (01).

If the bridge goes, its former ports stay. So the host also takes nothing from the TAP itself: no IPv6, no ARP, and no IPv4, as a TAP
has no address and no route leads there.
"""

from __future__ import annotations

import contextlib

from nqrust.contract.text import word
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host

FORWARDS = 0xFFFD
_NOARP = 0x80  # linux/if.h: IFF_NOARP
_SYSCTL, _NET = "/proc/sys/net", "/sys/class/net"
_ON, _OFF = "1", "0"


def flags() -> str:
    """Return the words of ip-link(8) for a port. Linux 4.15 and an iproute2 of then know them."""
    return f"group_fwd_mask {FORWARDS}"


def without_arp(name: str) -> str:
    """Return the line of ip(8) after which the host neither answers ARP on the TAP nor learns from it."""
    return f"link set dev {word(name)} arp off"


def refuse_packets(host: Host, name: str) -> None:
    """Have the host refuse every packet that comes from the TAP itself. Call it before the TAP goes up. Raises a HostError."""
    for path in _parameters(word(name)):
        with contextlib.suppress(PathMissing):  # a kernel without IPv6
            host.set_parameter(path, _ON)


def strange(host: Host, name: str) -> list[str]:
    """Return what is not as it has to be, for the log."""
    ipv6, ipv4 = _parameters(name)
    found = []
    if int(_read(host, f"{_NET}/{name}/brport/group_fwd_mask") or hex(FORWARDS), 16) != FORWARDS:
        found.append("frames from it reached the host past the bridge")
    if not int(_read(host, f"{_NET}/{name}/flags") or hex(_NOARP), 16) & _NOARP:
        found.append("the host answered ARP on it")
    if _read(host, ipv6) == _OFF:
        found.append("the host had IPv6 on it")
    if _read(host, ipv4) == _OFF:  # 1 and 2 do the same on a link without an address, and distributions set the latter
        found.append("the host took packets from it")
    return found


def _parameters(name: str) -> tuple[str, str]:
    return f"{_SYSCTL}/ipv6/conf/{name}/disable_ipv6", f"{_SYSCTL}/ipv4/conf/{name}/rp_filter"


def _read(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except HostError:
        return ""
