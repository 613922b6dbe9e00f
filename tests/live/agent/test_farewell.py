"""When the host goes down the guests are asked first; when only the agent does, they are left alone."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent import facts
from nqrust.agent.link import farewell
from nqrust.agent.scopes.port import exit_status
from nqrust.contract.paths import GOES_DOWN
from nqrust.host.errors import NoSpace
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


def test_a_request_of_nqr_counts_once_and_the_next_start_is_as_after_a_boot(bench: Bench) -> None:
    host, state = bench.service.host, bench.service.settings.state_dir
    before = facts.boot_id(host, state)
    assert farewell.due(host, state) is None and facts.boot_id(host, state) == before, "a restart of the agent alone"
    host.write_file(f"{state}/{GOES_DOWN}", b"33\n")
    assert farewell.due(host, state) == 33
    again = facts.boot_id(host, state)
    assert again != before and farewell.due(host, state) is None and facts.boot_id(host, state) == again
    host.write_file(f"{state}/{GOES_DOWN}", b"\n")
    assert farewell.due(host, state) == farewell.GRACE and facts.boot_id(host, state) != again


def test_a_request_that_no_agent_saw_is_forgotten(bench: Bench) -> None:
    host, state = bench.service.host, bench.service.settings.state_dir
    host.write_file(f"{state}/{GOES_DOWN}", b"33\n")
    farewell.forget(host, state)
    farewell.forget(host, state)
    assert farewell.due(host, state) is None


def test_a_full_disk_keeps_no_guest_from_being_asked() -> None:
    host = FakeHost()
    host.put(f"/state/{GOES_DOWN}", "33\n")
    host.fail_at(2, NoSpace("/state", "the file system is full"))
    assert farewell.due(host, "/state") == 33 and farewell.due(host, "/state") is None


def test_a_container_that_starts_again_has_another_boot_id() -> None:
    """The kernel's own id stays the same. systemd's machines keep using it."""
    host, stat = FakeHost(), "1 (sleep) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0"
    host.put("/proc/sys/kernel/random/boot_id", "the-kernels\n")
    host.put("/proc/1/stat", stat.format(100))
    first = facts.boot_id(host, "/state")
    assert facts.boot_id(host, "/state") == first != "the-kernels"
    host.put("/proc/1/stat", stat.format(900))
    assert facts.boot_id(host, "/state") != first
    host.put_directory("/run/systemd/system")
    assert facts.boot_id(host, "/state") == "the-kernels"


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
