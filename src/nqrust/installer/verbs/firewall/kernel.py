"""Limits of this kernel's packet filter."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

BOUNDS = ("hashlimit", "connlimit")
"""Matches of the rules that bound what one guest takes. A kernel may lack them; iptables-extensions(8)."""
NO_IPV6 = "IPv6 is off in the kernel"


def why_no_ipv6(host: Host) -> str:
    """Return why rules for IPv6 are impossible or needless here. Empty if nqr can set them, or installs their program later."""
    if host.stat("/proc/net/if_inet6") is None:
        return NO_IPV6
    if host.which("ip6tables") is None:
        return "ip6tables is not installed" if host.which("iptables") is not None else ""
    if host.run(command("ip6tables", "-w", "-t", "filter", "-S", ok=(0, 1, 2, 3, 4))).code != 0:
        return "this kernel has no filter table for IPv6"
    return ""


def lacks_bounds(host: Host) -> tuple[str, ...]:
    """Matches of `BOUNDS` that this kernel does not have loaded. It has them while a rule uses them."""
    try:
        known = host.read_text("/proc/net/ip_tables_matches").split()
    except HostError:
        known = []
    return tuple(match for match in BOUNDS if match not in known)
