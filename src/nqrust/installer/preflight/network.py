"""Checks of the VM network against the host's existing network."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.host.port import Host, command
from nqrust.installer.preflight import subnets
from nqrust.installer.preflight.findings import Finding, error, info, warning
from nqrust.installer.settings.model import NetworkMode, Settings

_TAKEN = 2
_TRIES = f"""
import errno, socket, sys
tried = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
try:
    tried.bind(("0.0.0.0", int(sys.argv[1])))
except OSError as error:
    sys.exit({_TAKEN} if error.errno == errno.EADDRINUSE else 1)
"""


def subnet_is_free(settings: Settings, facts: Facts, former: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Check that the VM subnet overlaps no other network; otherwise both would hide each other. `former`: nqr's bridges from
    earlier settings, which nqr removes."""
    net = ipaddress.IPv4Network(settings.network.cidr)
    ours = frozenset({settings.network.bridge_name, *former})
    hides = subnets.overlap(net, facts, ours)
    if hides:
        free = subnets.free(facts, ours)
        offer = f": {free} is free (`--network-cidr {free}`)" if free else " with `--network-cidr`"
        yield error("NQR-PRE-020", f"The VM network {net} overlaps {hides}.", f"Choose another one{offer}.")


def bridge_is_free(settings: Settings, facts: Facts, former: frozenset[str] = frozenset()) -> Iterator[Finding]:
    name = settings.network.bridge_name
    if name in former:
        return  # the step checks whether it is still nqr's, and gives it the new address
    found = next((link for link in facts.network.links if link.name == name), None)
    if found is None:
        return
    wanted = f"{settings.network.gateway}/{settings.network.prefix_length}"
    v4 = [a for a in found.addresses if ":" not in a]
    if found.kind != "bridge":
        yield error("NQR-PRE-028", f"{name} exists and is not a bridge.", "Choose another name with --bridge-name.")
    elif settings.network.mode is NetworkMode.nat and v4 and v4 != [wanted]:
        yield error(
            "NQR-PRE-028",
            f"The bridge {name} exists with {', '.join(v4)}, not {wanted}.",
            "Choose another name with --bridge-name, or set network.cidr to that network.",
        )


def dhcp_is_free(settings: Settings, facts: Facts, host: Host, installed: bool) -> Iterator[Finding]:
    """Look for another DHCP server on every address (RFC 2131: port 67): it lets no other start beside it, or it also answers
    VMs."""
    if installed:
        return
    for port in facts.ports:
        if port.protocol == "udp" and port.port == 67 and port.address in ("0.0.0.0", "*", "::", settings.network.gateway):
            who = port.process or "Another program"
            if shares_port(host, port.port):
                yield warning(
                    "NQR-PRE-013",
                    f"{who} listens for DHCP on {port.address}.",
                    f"Make it leave out {settings.network.bridge_name} (dnsmasq: except-interface={settings.network.bridge_name}, bind-interfaces).",
                )
            else:
                yield error(
                    "NQR-PRE-037",
                    f"{who} holds the DHCP port for all interfaces, so no DHCP server for VMs can start.",
                    f"Give it interfaces of its own (dnsmasq: bind-dynamic and except-interface={settings.network.bridge_name}), and"
                    " restart it.",
                )
            return


def shares_port(host: Host, port: int) -> bool:
    """Return whether a second dnsmasq can bind that UDP port. Nobody can see from outside whether a socket allows that
    (socket(7), SO_REUSEADDR), so a short-lived program tries."""
    return host.run(command(sys.executable, "-I", "-c", _TRIES, str(port), ok=(0, 1, 2), timeout=20)).code != _TAKEN


def neighbours(facts: Facts) -> Iterator[Finding]:
    """Report other software that controls forwarding. nqr works beside it."""
    for name in facts.network.firewall_managers:
        if name == "docker":
            yield info(
                "NQR-PRE-012",
                "Docker drops forwarded packets by default. nqr puts its rules for the VM bridge first.",
            )
        elif name == "ufw":
            yield info("NQR-PRE-014", "ufw is active. nqr adds rules for the VM bridge and leaves it unchanged.")
        elif name == "firewalld":
            yield info("NQR-PRE-014", "firewalld is active. nqr adds a zone for the VM bridge and leaves the others unchanged.")
        elif name == "libvirt":
            yield info("NQR-PRE-011", "libvirt is active with networks of its own; they are left alone.")


def uplink(settings: Settings, facts: Facts) -> Iterator[Finding]:
    if settings.network.mode is not NetworkMode.bridged:
        return
    name = settings.network.uplink or facts.network.uplink
    ready = any(link.name == settings.network.bridge_name for link in facts.network.links)
    if name is None and not ready:
        yield error(
            "NQR-PRE-031",
            "No uplink was found for bridged mode: there is no default route.",
            "Name it with --uplink.",
        )


def checks(settings: Settings, facts: Facts, host: Host, installed: bool, former: tuple[Settings, ...] = ()) -> Iterator[Finding]:
    """Yield the findings of all network checks. `former`: settings of earlier runs on this host."""
    bridges = frozenset(s.network.bridge_name for s in former if s.has_agent and s.network.mode is not NetworkMode.bridged)
    if not settings.has_agent:
        return
    if settings.network.mode is not NetworkMode.bridged:
        yield from subnet_is_free(settings, facts, bridges)
        yield from dhcp_is_free(settings, facts, host, installed)
    yield from bridge_is_free(settings, facts, bridges)
    yield from neighbours(facts)
    yield from uplink(settings, facts)
