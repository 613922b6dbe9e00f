"""Checks before this host's own network card goes into a bridge for the VMs."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.errors import HostError
from nqrust.host.facts.model import Facts
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.settings.model import NetworkMode, NetworkSettings, Settings
from nqrust.installer.uplink import registry
from nqrust.installer.uplink.model import Refused
from nqrust.installer.verbs.network.guard import folder
from nqrust.installer.verbs.network.guard.arming import UNDECIDED, UNDECIDED_CURE, UNDECIDED_WHAT
from nqrust.installer.verbs.network.own_card import OwnBridge

CODES = tuple(f"NQR-NET-{number}" for number in (141, 145, *range(150, 161), 200))
"""Refusals that no flag lifts: the step would refuse too, or leave the host without its network."""


def undecided(host: Host) -> Iterator[Finding]:
    """Refuse any change while the guard of an interrupted run may still put the old network back."""
    if folder.state(host) in folder.PENDING:
        yield error(UNDECIDED, UNDECIDED_WHAT, UNDECIDED_CURE)


def checks(settings: Settings, facts: Facts, host: Host, own: tuple[OwnBridge, ...]) -> Iterator[Finding]:
    """Yield the findings. `own`: the bridges that nqr made here, each with its card."""
    yield from undecided(host)
    network = settings.network
    if not settings.has_agent or network.mode is not NetworkMode.bridged:
        return
    ours = next((one for one in own if one.bridge == network.bridge_name), None)
    if ours is not None:
        if network.uplink not in (None, ours.link, ours.bridge):
            yield error(
                "NQR-NET-157",
                f"nqr has put {ours.link} into {ours.bridge}, and does not exchange it for {network.uplink} in place.",
                f"Leave --uplink out. Or give {network.uplink} a bridge of its own with --bridge-name.",
            )
        return
    name = network.uplink or facts.network.uplink
    there = {link.name for link in facts.network.links}
    if network.bridge_name in there or name not in there:
        return  # an administrator's bridge (ready_bridge.py), or a card that is not there (addresses.py, network.py)
    yield from _movable(host, name, network)


def _movable(host: Host, name: str, network: NetworkSettings) -> Iterator[Finding]:
    try:
        card = registry.card(host, name)
        manager = registry.owner(host, card).manager
        change = manager.change(host, card, network.bridge_name)
    except (Refused, StepFailed) as refused:
        why = refused.why if isinstance(refused, Refused) else refused.what
        yield error(refused.code, why, refused.cure)
        return
    except HostError as failed:
        yield error(
            "NQR-NET-159",
            f"The network of {name} cannot be read: {str(failed).rstrip('.')}.",
            "Install iproute2 if it is missing, or make a bridge yourself and name it with --bridge-name.",
        )
        return
    addresses = [one.cidr for one in change.live.addresses]
    if not any(":" not in one for one in addresses):
        yield error(
            "NQR-NET-160",
            f"{name} has no IPv4 address of this host. VMs need one for their reports.",
            f"Give {name} an address of the LAN with {manager.name}, or name another card with --uplink.",
        )
        return
    yield warning(
        "NQR-NET-161",
        f"{name} ({manager.name}) becomes a port of {network.bridge_name}, which gets {', '.join(addresses)}. Within"
        f" {network.window} s its gateways ({', '.join(change.gateways) or 'none'}) must answer, and another machine must connect or"
        " you confirm. Otherwise the old network comes back.",
    )
