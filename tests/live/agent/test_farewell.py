"""When the host goes down the guests are asked first; when only the agent does, they are left alone."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.link import farewell
from nqrust.agent.scopes.port import exit_status
from nqrust.host.port import Completed

from .conftest import VM, Bench


@pytest.mark.parametrize(
    ("systemd", "state", "code", "down"),
    [(True, "stopping", 1, True), (True, "running", 0, False), (True, "degraded", 1, False), (False, "stopping", 1, False)],
)
def test_agent_stops_guests_only_at_a_host_shutdown(systemd: bool, state: str, code: int, down: bool) -> None:
    host = FakeHost.debian12()
    host.remove_tree("/run/systemd")
    for path in ("/run/systemd", "/run/systemd/system") if systemd else ():
        host.mkdir(path)
    host.on("systemctl", "is-system-running", answer=Completed(("systemctl",), code, f"{state}\n", ""))
    assert farewell.host_goes_down(host) is down


def test_guests_power_off_and_count_as_ended_by_their_host(bench: Bench) -> None:
    bench.service.put(bench.spec())
    status = exit_status(str(bench.vm_dir()))
    bench.service.host.write_file(status, b"0\n")
    assert farewell.say(bench.service) == {"web1": True}
    assert bench.vmm.asked and bench.service.scopes.get(VM) is None
    assert not bench.service.host.exists(status), "else it would look as if its user had powered it off"
    found = bench.service.status(VM)
    assert (found.state, "a host shutdown" in found.exit_reason) == ("failed", True)
    assert farewell.say(bench.service) == {}, "nothing runs any more"


def test_a_guest_that_does_not_listen_is_left_to_systemd(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.vmm.deaf = True
    assert farewell.say(bench.service, 0.0) == {"web1": False}
    assert bench.service.scopes.get(VM) is not None


def test_agent_keeps_a_guest_that_powered_off_stopped(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.scopes.alive.clear()
    bench.service.host.write_file(exit_status(str(bench.vm_dir())), b"0\n")
    assert farewell.say(bench.service) == {}
    assert bench.service.status(VM).state == "stopped"
