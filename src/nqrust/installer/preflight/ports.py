"""Checks that the ports in the settings are free, or nqr's own."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.contract import names
from nqrust.host.facts.model import Facts, ListeningPort
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.settings.model import DbType, NetworkMode, Settings
from nqrust.installer.supervisor.holding import overlaps, split_bind
from nqrust.installer.verbs.postgres.cluster import expected_port

DATABASE_PORT = "database.port"
LOOPBACK = "127.0.0.1"
SUBNET = "network.cidr"
"""The setting from which the address of the agent's guest listener comes."""


def wanted(settings: Settings) -> list[tuple[str, str, int, str]]:
    """Return (purpose, address, port, setting to change it) of each TCP port in the settings."""
    ports: list[tuple[str, str, int, str]] = []
    if settings.has_manager:
        ports.append(("the manager", *split_bind(settings.manager.bind), "MANAGER_BIND"))
    if settings.has_agent:
        ports.append(("the agent", *split_bind(settings.agent.bind), "AGENT_BIND"))
        if settings.network.mode is not NetworkMode.bridged:
            ports.append(
                (
                    "the agent's guest listener",
                    settings.network.gateway,
                    names.GUEST_RELAY_PORT,
                    SUBNET,
                )
            )
    if settings.has_ui:
        ports.append(("the web UI", *split_bind(settings.ui.bind), "ui.bind"))
    return ports


def _holder(port: ListeningPort) -> str:
    if port.process:
        return f"{port.process} (process {port.pid})"
    return "a process that cannot be seen from here"


def checks(
    settings: Settings,
    facts: Facts,
    installed: Settings | None,
    explicit: frozenset[str] = frozenset(),
    own: frozenset[int] = frozenset(),
) -> Iterator[Finding]:
    """Check that all ports are free. `installed`: settings of the existing installation, whose ports are nqr's. `own`:
    processes of its services, which release or keep their ports as these settings require. `explicit`: settings that the user
    chose."""
    yield from _wanted_twice(settings)
    ours = {(address, number) for _, address, number, _ in wanted(installed)} if installed else set()
    for purpose, address, number, choose in wanted(settings):
        if (address, number) in ours:
            continue
        # Manager, agent and web UI listen on loopback, too.
        addresses = (address,) if choose == SUBNET else (address, LOOPBACK)
        for port in facts.ports:
            if port.pid not in own and any(overlaps(port, one, number) for one in addresses):
                yield error(
                    "NQR-PRE-007",
                    f"Port {number}, wanted for {purpose}, is held by {_holder(port)}.",
                    f"Stop that process, or choose another port with {choose}.",
                )
                break
    yield from database_port(settings, facts, installed, chosen=DATABASE_PORT in explicit)


def _wanted_twice(settings: Settings) -> Iterator[Finding]:
    """Check the guest listener's port. It is not a setting, so the settings' own checks do not cover it."""
    ports = wanted(settings)
    relay = next((row for row in ports if row[2] == names.GUEST_RELAY_PORT and row[3] == SUBNET), None)
    for purpose, _, number, choose in ports if relay else ():
        if choose != SUBNET and number == names.GUEST_RELAY_PORT:
            yield error(
                "NQR-PRE-007",
                f"Port {number}, wanted for {purpose}, is the port of the agent's guest listener.",
                f"Choose another port with {choose}.",
            )


def database_port(settings: Settings, facts: Facts, installed: Settings | None, *, chosen: bool) -> Iterator[Finding]:
    """Check the local database's port. The database is always in a PostgreSQL cluster of the distribution, not in another
    server on that port. nqr uses the cluster's actual port, unless the user has `chosen` one."""
    db = settings.database
    if not settings.has_manager or db.type is DbType.remote or installed is not None:
        return
    if any(cluster.port == db.port for cluster in facts.postgres):
        return
    found = expected_port(facts.postgres, facts.ports, db.port)
    holder = next((p for p in facts.ports if overlaps(p, "127.0.0.1", db.port)), None)
    if holder is not None:
        yield warning(
            "NQR-PRE-026",
            f"Port {db.port} is held by {_holder(holder)}, not by a PostgreSQL cluster of this distribution. "
            f"nqr will use the distribution's cluster on port {found}.",
            "To use that server, add --db-type remote.",
        )
    elif found != db.port and chosen:
        yield error(
            "NQR-PRE-026",
            f"There is no PostgreSQL cluster on port {db.port}. The cluster of this host is (or will be) on port {found}.",
            f"Leave out --db-port, or make a cluster on port {db.port} first.",
        )
