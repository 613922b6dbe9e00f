"""`nqr status` and `nqr doctor` name the program that keeps a service from its port."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.engine.test_retire import Thing
from tests.unit.installer.operations.test_status import installed
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_converging import context

from nqrust.contract.names import AGENT_PORT, GUEST_RELAY_PORT, MANAGER_PORT
from nqrust.host.facts.model import ListeningPort
from nqrust.installer import operations, planner
from nqrust.installer.engine.plan import Plan
from nqrust.installer.operations import held_ports, inspect
from nqrust.installer.phases.services import names_of
from nqrust.installer.preflight.ports import wanted
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.spec import ServiceState

MINE, CHILD, BOBS = 500, 501, 812
NQRUST, BOB = 990, 1000
TAIL = "Stop it. The service tries again until its port is free."


def notes(*ports: ListeningPort) -> list[str]:
    host: Any = FakeHost.debian12()
    host.add_user("bob", 1000)
    for pid, parent, owner in ((MINE, 1, "root"), (CHILD, MINE, "root"), (BOBS, 1, "bob")):
        host.put(f"/proc/{pid}/stat", f"{pid} (a program) S {parent} 1 1\n")
        host.put(f"/proc/{pid}/status", f"Name:\ta program\nUid:\t0\t0\t0\t{NQRUST if pid == MINE else 0}\nGid:\t0\t0\t0\t0\n")
        host.set_mode(f"/proc/{pid}", mode=0o555, owner=owner, group="root")
    supervisor: Any = SimpleNamespace(state=lambda host, name: ServiceState(active=name == "nqrust-manager", pid=MINE))
    services = ("nqrust-manager", "nqrust-agent")
    return list(held_ports.notes(host, Settings(), fit(ports=ports), supervisor, services))


@pytest.mark.parametrize(("number", "purpose"), [(MANAGER_PORT, "the manager"), (AGENT_PORT, "the agent")])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_the_holder_is_named_with_its_user(number: int, purpose: str, address: str) -> None:
    held = ListeningPort("tcp", address, number, BOBS, "nc")
    assert notes(held) == [f"nc (process {BOBS}) of user bob holds port {number} of {purpose}. {TAIL}"]


@pytest.mark.parametrize("pid", [MINE, CHILD])
def test_ports_of_nqrs_own_services_are_no_news(pid: int) -> None:
    assert notes(ListeningPort("tcp", "0.0.0.0", MANAGER_PORT, pid, "python3")) == []


@pytest.mark.parametrize(
    "port",
    [
        ListeningPort("udp", "0.0.0.0", MANAGER_PORT, BOBS, "nc"), ListeningPort("tcp", "0.0.0.0", 8000, BOBS, "nc"),
        ListeningPort("tcp", "127.0.0.1", GUEST_RELAY_PORT, BOBS, "nc"),
    ],
)  # fmt: skip
def test_other_sockets_keep_no_service_from_its_port(port: ListeningPort) -> None:
    assert notes(port) == []


@pytest.mark.parametrize(("port", "purpose"), [(MANAGER_PORT, "the manager"), (AGENT_PORT, "the agent")])
@pytest.mark.parametrize("user", [None, 0, NQRUST, BOB])
def test_a_program_without_a_name_is_told_too_unless_it_may_be_the_service(port: int, purpose: str, user: int | None) -> None:
    """The manager runs, as the user nqrust and as root, and the agent does not. A container without CAP_SYS_PTRACE shows the sockets
    of no other user's process."""
    running = port == MANAGER_PORT and user in (0, NQRUST)
    told = f"A process that cannot be seen from here holds port {port} of {purpose}. {TAIL}"
    assert notes(ListeningPort("tcp", "::", port, 0, "", user)) == [told] * (not running)


def test_each_port_has_a_service() -> None:
    settings = Settings()
    assert {service for *_, service in wanted(settings)} == set(held_ports.SERVICES)
    assert set(held_ports.SERVICES.values()) <= set(names_of(settings))


def test_status_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = installed(monkeypatch, context(Settings()), Thing("/etc/a"))
    bench.host.put(f"/proc/{BOBS}/stat", f"{BOBS} (nc) S 1 1 1\n")
    held = ListeningPort("tcp", "0.0.0.0", AGENT_PORT, BOBS, "nc")
    monkeypatch.setattr(inspect, "facts_for", lambda host, settings: fit(ports=(held,)))
    monkeypatch.setattr(planner, "plan", lambda context: Plan(()))
    (note,) = [note for note in operations.status(Request(Settings())).notes if "holds port" in note]
    assert note == f"nc (process {BOBS}) of user root holds port {AGENT_PORT} of the agent. {TAIL}"
