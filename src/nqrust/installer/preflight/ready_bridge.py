"""Checks of a bridge that the administrator made, before VMs join the LAN through it."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.host.port import Host
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import NetworkMode, Settings
from nqrust.installer.verbs.network.link import ALIAS
from nqrust.installer.verbs.network.own_card import OwnBridge

CURE = "Choose another name with --bridge-name: that of your own bridge, or a new one for this host's card."


def checks(settings: Settings, facts: Facts, host: Host, own: tuple[OwnBridge, ...]) -> Iterator[Finding]:
    """Yield nothing without such a bridge, or for one of nqr's (`own`): own_card.py looks at these."""
    if any(one.bridge == settings.network.bridge_name for one in own):
        return
    if not settings.has_agent or settings.network.mode is not NetworkMode.bridged:
        return
    name, uplink = settings.network.bridge_name, settings.network.uplink
    bridge = next((link for link in facts.network.links if link.name == name and link.kind == "bridge"), None)
    if bridge is None:
        return
    alias = f"/sys/class/net/{name}/ifalias"
    if host.exists(alias) and host.read_text(alias).strip() == ALIAS:
        yield error("NQR-NET-134", f"The bridge {name} is the one of nqr's own VM network, which has no LAN.", CURE)
        return
    ports = [link.name for link in facts.network.links if link.master == name and link.kind != "tun"]
    if not bridge.up:
        yield error("NQR-NET-135", f"The bridge {name} is down.", f"Bring it up: ip link set {name} up")
    if not ports:
        yield error(
            "NQR-NET-136",
            f"The bridge {name} has no network card as a port, so VMs on it would reach no LAN.",
            f"Put this host's card into {name} with its network manager, or use --network-mode nat.",
        )
    elif uplink and uplink not in ports:
        yield error(
            "NQR-NET-137",
            f"{uplink} is no port of the bridge {name}; its ports are {', '.join(ports)}.",
            "Leave --uplink out, or name the bridge that has this card.",
        )
    if not any(":" not in address for address in bridge.addresses):
        yield error(
            "NQR-NET-138",
            f"The bridge {name} has no IPv4 address of this host. VMs need one for their reports.",
            f"Give {name} an address of the LAN with this host's network manager.",
        )
