"""Ports of the installation that programs of others hold. A service of nqr tries again until its port is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nqrust.host.facts.model import Facts, ListeningPort
from nqrust.host.port import Host
from nqrust.installer.phases.services import AGENT, MANAGER, UI
from nqrust.installer.preflight.ports import LOOPBACK, SUBNET, wanted
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.holding import overlaps, own_processes, users_of
from nqrust.installer.supervisor.port import Supervisor

SERVICES = {"MANAGER_BIND": MANAGER, "AGENT_BIND": AGENT, SUBNET: AGENT, "ui.bind": UI}
"""The service that listens on a port, by the setting from which the port comes."""


def notes(host: Host, settings: Settings, facts: Facts, supervisor: Supervisor, services: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each port of the installation that another program holds. `services`: names of all services of nqr."""
    held = [
        (purpose, port, SERVICES[chosen_with])
        for purpose, address, number, chosen_with in wanted(settings)
        for port in facts.ports
        if any(overlaps(port, one, number) for one in ((address,) if chosen_with == SUBNET else (address, LOOPBACK)))
    ]
    if not held:
        return
    own = own_processes(host, supervisor, services)
    for purpose, port, service in held:
        if port.pid not in own and not _may_be_its_own(host, supervisor, service, port):
            holder = _holder(host, port)
            yield f"{holder} holds port {port.port} of {purpose}. Stop it. The service tries again until its port is free."


def _may_be_its_own(host: Host, supervisor: Supervisor, service: str, port: ListeningPort) -> bool:
    """Return whether a socket that no visible process has may be that of a service. A container without CAP_SYS_PTRACE shows root
    no socket of another user's process (proc_pid_fd(5)). The socket's user is visible there, too."""
    return port.pid == 0 and port.user in users_of(host, own_processes(host, supervisor, (service,)))


def _holder(host: Host, port: ListeningPort) -> str:
    found = host.stat(f"/proc/{port.pid}") if port.pid else None
    if found is None:
        return "A process that cannot be seen from here"
    return f"{port.process or 'A program'} (process {port.pid}) of user {found.owner}"
