"""Every network manager, and who owns a card. A new one is a new file and its line here."""

from __future__ import annotations

from nqrust.host.facts.nic import Nic, probe
from nqrust.host.port import Host
from nqrust.installer.engine.step import Conflict
from nqrust.installer.uplink.ifupdown import Ifupdown
from nqrust.installer.uplink.model import Manager, Owner, Refused
from nqrust.installer.uplink.netplan_network_manager import NetplanNetworkManager
from nqrust.installer.uplink.netplan_networkd import NetplanNetworkd
from nqrust.installer.uplink.network_manager import NetworkManager
from nqrust.installer.uplink.networkd import Networkd
from nqrust.installer.verbs.network.guard.change import NetworkChange

MANAGERS: tuple[Manager, ...] = (
    NetplanNetworkd(),
    NetplanNetworkManager(),
    Networkd(),
    NetworkManager(),
    Ifupdown(),
)
_BRIDGEABLE = ("physical", "bond", "vlan", "team")


def card(host: Host, name: str) -> Nic:
    """Return the card. Raises Refused for one that cannot become a port of a bridge, and HostError."""
    nic = probe(host, name)
    if nic is None:
        raise Refused("NQR-NET-150", f"There is no network card {name}.", "Name one that `ip link` shows with --uplink.")
    if nic.kind == "wifi":
        raise Refused(
            "NQR-NET-153",
            f"{name} is a wireless card, and an access point takes frames of one MAC from it only.",
            "Name a wired card with --uplink, or use --network-mode nat.",
        )
    if nic.master:
        raise Refused(
            "NQR-NET-154",
            f"{name} is a part of {nic.master} already.",
            f"Use that bridge: --bridge-name {nic.master}."
            if nic.master_kind == "bridge"
            else f"Name {nic.master} with --uplink instead.",
        )
    if nic.kind == "bridge":
        raise Refused("NQR-NET-154", f"{name} is a bridge already.", f"Use that bridge: --bridge-name {name}.")
    if nic.kind not in _BRIDGEABLE or len(nic.mac.split(":")) != 6:
        raise Refused(
            "NQR-NET-155",
            f"{name} is a link of kind {nic.kind}, which cannot become a port of a bridge.",
            "Name a network card with --uplink, or use --network-mode nat.",
        )
    return nic


def owner(host: Host, nic: Nic) -> Owner:
    """Return the one manager that configured the card. Raises Refused for none and for several, and HostError."""
    found = [one for manager in MANAGERS if (one := manager.owns(host, nic))]
    if not found:
        raise Refused(
            "NQR-NET-151",
            f"No network manager that nqr knows has configured {nic.name}.",
            f"Configure it with {', '.join(m.name for m in MANAGERS)}, or make a bridge and name it with --bridge-name.",
        )
    if len(found) > 1:
        names = " and ".join(one.manager.name for one in found)
        raise Refused(
            "NQR-NET-152",
            f"Both {names} configure {nic.name}.",
            f"Take {nic.name} out of the files of one of them: {', '.join(p for one in found for p in one.sources) or 'none'}.",
        )
    return found[0]


def change(host: Host, name: str, bridge: str) -> NetworkChange:
    """Return the change that puts the card into `bridge`. Raises Refused, HostError."""
    nic = card(host, name)
    return owner(host, nic).manager.change(host, nic, bridge)


def planned(host: Host, name: str, bridge: str) -> NetworkChange | Conflict:
    """Return the change, or the refusal as a step's conflict. Raises HostError."""
    try:
        return change(host, name, bridge)
    except Refused as refused:
        return Conflict(refused.code, refused.why, refused.cure)
