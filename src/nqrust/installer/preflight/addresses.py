"""Checks that the addresses and interfaces in the settings exist."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from nqrust.host.facts.model import Facts
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.settings.model import Mode, Settings
from nqrust.installer.supervisor.holding import split_bind

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _own(facts: Facts) -> set[Address]:
    return {ipaddress.ip_interface(a.partition("%")[0]).ip for link in facts.network.links for a in link.addresses}


def binds(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """Check that this host has each bind address; bind(2) fails with EADDRNOTAVAIL otherwise. The install adds the bridge's
    address."""
    own = _own(facts)
    wanted = (
        (settings.has_manager, "manager", settings.manager.bind, "--manager-bind"),
        (settings.has_agent, "agent", settings.agent.bind, "--agent-bind"),
        (settings.has_ui, "web UI", settings.ui.bind, "--ui-bind"),
    )
    for runs, who, bind, flag in wanted:
        address = _address(split_bind(bind)[0])
        if not runs or address is None or address.is_unspecified or address.is_loopback or address in own:
            continue
        if not own:  # the addresses are unreadable here
            continue
        if settings.has_agent and str(address) == settings.network.gateway:
            continue
        yield error(
            "NQR-PRE-052",
            f"The {who} cannot listen on {bind}: {address} is not an address of this host.",
            f"Give {flag} an address of this host, or 0.0.0.0 for all of them.",
        )


def reachable_agent(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """Check that a remote manager can reach the agent: not on loopback, and at an address of this host."""
    if settings.mode is not Mode.agent:
        return
    manager = urlsplit(settings.agent.manager_base).hostname or ""
    at_manager = _address(manager)
    if manager == "localhost" or (at_manager is not None and at_manager.is_loopback):
        return
    said = settings.agent.advertise_address
    advertised = _address(said) if said else None
    if said and advertised is not None and advertised.is_loopback:
        yield error(
            "NQR-PRE-053",
            f"The manager at {manager} cannot reach this agent at {said}, which is a loopback address.",
            "Give --advertise-address an address of this host, or leave it out.",
        )
    elif said and advertised is not None and advertised not in _own(facts):
        yield warning(
            "NQR-PRE-053",
            f"The agent advertises {said}, which is not an address of this host.",
            "Check --advertise-address, unless a router forwards that address to this host.",
        )
    listening = _address(split_bind(settings.agent.bind)[0])
    if listening is not None and listening.is_loopback:
        yield error(
            "NQR-PRE-053",
            f"The manager at {manager} cannot reach an agent that listens on {settings.agent.bind}.",
            "Give --agent-bind an address of this host, or 0.0.0.0 for all of them.",
        )


def uplink(settings: Settings, facts: Facts) -> Iterator[Finding]:
    name = settings.network.uplink
    if settings.has_agent and name and not any(link.name == name for link in facts.network.links):
        there = ", ".join(link.name for link in facts.network.links if link.name != "lo") or "none"
        yield error("NQR-PRE-031", f"There is no interface {name}.", f"Name an existing one with --uplink: {there}.")


def checks(settings: Settings, facts: Facts) -> Iterator[Finding]:
    yield from binds(settings, facts)
    yield from reachable_agent(settings, facts)
    yield from uplink(settings, facts)
