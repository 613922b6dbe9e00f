"""Which IPv4 networks this host reaches already, and a free one for its VMs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.installer.settings.model import NetworkMode, NetworkSettings, Settings

Net = ipaddress.IPv4Network
SPARE = (Net("10.127.0.0/16"), Net("172.30.0.0/16"), Net("192.168.0.0/16"))
"""Where a free one is looked for, in this order."""
_CHOICE = frozenset({"network.cidr", "network.dhcp_first", "network.dhcp_last"})


def in_use(facts: Facts, ours: frozenset[str]) -> Iterator[tuple[Net, str]]:
    """Yield the networks that this host reaches, with words for where. `ours`: bridges of nqr, which do not count."""
    for link in facts.network.links:
        for address in link.addresses if link.name not in ours else ():
            try:
                net = ipaddress.ip_interface(address).network
            except ValueError:
                continue
            if isinstance(net, Net):
                yield net, f"{net} on {link.name}"
    for route in facts.network.routes:
        if route.destination == "default" or route.device in ours:
            continue
        try:
            net = Net(route.destination)
        except ValueError:
            continue
        if net.prefixlen > 0:
            yield net, f"the route to {net} through {route.device}"
    for server in facts.network.nameservers:
        try:
            one = ipaddress.ip_address(server)
        except ValueError:
            continue
        if isinstance(one, ipaddress.IPv4Address) and not one.is_loopback:
            yield Net(one), f"the name server {one}"


def overlap(net: Net, facts: Facts, ours: frozenset[str]) -> str:
    """Return words for a network that `net` would hide, or ""."""
    return next((where for other, where in in_use(facts, ours) if other.overlaps(net)), "")


def free(facts: Facts, ours: frozenset[str]) -> Net | None:
    """Return the first /24 of SPARE that nothing overlaps: the same one as long as the host's networks are the same."""
    taken = [net for net, _ in in_use(facts, ours)]
    return next((net for spare in SPARE for net in spare.subnets(new_prefix=24) if not any(net.overlaps(t) for t in taken)), None)


def settled(
    settings: Settings, facts: Facts, explicit: frozenset[str], installed: Settings | None, former: frozenset[str]
) -> tuple[Settings, str]:
    """Return the settings with a free VM network where the default is in use, and words for what it would hide. A network that
    somebody chose, or that VMs have already, stays. `former`: nqr's bridges of earlier runs."""
    network = settings.network
    has_one = installed is not None and installed.has_agent
    if not settings.has_agent or network.mode is NetworkMode.bridged or explicit & _CHOICE or has_one:
        return settings, ""
    ours = frozenset({network.bridge_name, *former})
    hides = overlap(Net(network.cidr), facts, ours)
    found = free(facts, ours) if hides else None
    if found is None:
        return settings, ""
    chosen = NetworkSettings(
        mode=network.mode,
        bridge_name=network.bridge_name,
        uplink=network.uplink,
        window=network.window,
        cidr=str(found),
        dhcp_first=str(found[10]),
        dhcp_last=str(found[250]),
    )
    return settings.model_copy(update={"network": chosen}), hides
