"""Ports of the installation that programs of others hold. A service of nqr tries again until its port is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nqrust.host.facts.model import Facts, ListeningPort
from nqrust.host.port import Host
from nqrust.installer.preflight.ports import LOOPBACK, SUBNET, wanted
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.holding import overlaps, own_processes
from nqrust.installer.supervisor.port import Supervisor


def notes(host: Host, settings: Settings, facts: Facts, supervisor: Supervisor, services: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each port of the installation that another program holds. `services`: names of all services of nqr."""
    held = [
        (purpose, port)
        for purpose, address, number, chosen_with in wanted(settings)
        for port in facts.ports
        if any(overlaps(port, one, number) for one in ((address,) if chosen_with == SUBNET else (address, LOOPBACK)))
    ]
    if not held:
        return
    own = own_processes(host, supervisor, services)
    for purpose, port in held:
        if port.pid not in own:
            holder = _holder(host, port)
            yield f"{holder} holds port {port.port} of {purpose}. Stop it. The service tries again until its port is free."


def _holder(host: Host, port: ListeningPort) -> str:
    found = host.stat(f"/proc/{port.pid}") if port.pid else None
    if found is None:
        return "A process that cannot be seen from here"
    return f"{port.process or 'A program'} (process {port.pid}) of user {found.owner}"
