"""Services: nqr starts them, restarts them only if their files changed, and waits for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Origin, Satisfied
from nqrust.installer.platform.wait import Healthy
from nqrust.installer.supervisor.spec import ServiceSpec, ServiceState
from nqrust.installer.supervisor.systemd import Systemd
from nqrust.installer.verbs.service.unit import Service


@dataclass(frozen=True)
class Scripted(Systemd):
    """systemd with one service in memory. `dies`: it never stays up."""

    box: dict[str, Any] = field(default_factory=lambda: {"state": ServiceState(known=True), "done": []})
    dies: bool = False

    def state(self, host: Host, name: str) -> ServiceState:
        state: ServiceState = self.box["state"]
        return state

    def note(self, what: str, host: Host, **change: Any) -> None:
        self.box["done"].append(what)
        self.box["state"] = replace(self.box["state"], known=True, **change)

    def reload(self, host: Host) -> None:
        self.note("reload", host, stale_file=False)

    def enable(self, host: Host, name: str) -> None:
        self.note("enable", host, enabled=True)

    def start(self, host: Host, name: str) -> None:
        self.note("start", host, active=not self.dies, failed=self.dies, since=host.now())

    def restart(self, host: Host, name: str) -> None:
        self.note("restart", host, active=not self.dies, failed=self.dies, since=host.now())

    def log_tail(self, host: Host, name: str, lines: int = 10) -> list[str]:
        return ["cannot read /etc/x"]

    def render(self, spec: ServiceSpec) -> str:
        return ""


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.put("/etc/systemd/system/m.service", "[Unit]\n")
    host.put("/etc/m.env", "A=1\n")
    host.clock += 10
    return host


def service(supervisor: Scripted, key: str = "k1") -> Service:
    return Service("m", supervisor, restart_key=key, watch=("/etc/m.env",))


def started(host: FakeHost) -> tuple[Scripted, Service]:
    supervisor = Scripted()
    step = service(supervisor)
    step.apply(host)
    step.verify(host)
    supervisor.box["done"].clear()
    return supervisor, step


def test_new_service_is_enabled_and_started(host: FakeHost) -> None:
    supervisor = Scripted(box={"state": ServiceState(), "done": []})
    step = service(supervisor)
    found = step.inspect(host)
    assert isinstance(found, Needed) and found.diff == ("enable m.service", "start m.service")
    prepared = step.prepare(host)
    assert prepared.origin is Origin.created
    assert prepared.undo[-1].args == {
        "supervisor": "systemd",
        "name": "m.service",
        "enabled": False,
        "active": False,
    }
    step.apply(host)
    assert supervisor.box["done"] == ["reload", "enable", "start"]
    assert isinstance(step.inspect(host), Satisfied)


def test_service_with_the_same_key_is_not_restarted(host: FakeHost) -> None:
    _, step = started(host)
    host.clock += 3600
    assert isinstance(step.inspect(host), Satisfied)


def test_service_with_a_new_key_restarts_once(host: FakeHost) -> None:
    supervisor, _ = started(host)
    step = service(supervisor, "k2")
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert supervisor.box["done"] == ["enable", "restart"] and isinstance(step.inspect(host), Satisfied)


def test_file_written_after_the_start_restarts(host: FakeHost) -> None:
    supervisor, step = started(host)
    host.clock += 60
    host.put("/etc/m.env", "A=1\n")  # a user's edit that was put right by an earlier step
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert "restart" in supervisor.box["done"] and isinstance(step.inspect(host), Satisfied)


def rebooted(host: FakeHost, supervisor: Scripted, *, seconds: float = 5) -> None:
    host.remove_tree("/run")
    host.clock += 3600
    supervisor.box["state"] = replace(supervisor.box["state"], since=host.now() - seconds)


def test_after_a_reboot_nothing_is_restarted(host: FakeHost) -> None:
    supervisor, step = started(host)
    rebooted(host, supervisor)
    assert isinstance(step.inspect(host), Satisfied)
    host.remove(step.key_path)
    assert isinstance(step.inspect(host), Satisfied)


@pytest.mark.parametrize("key", ["known", "lost"])
def test_a_setting_changed_right_after_a_boot_restarts(host: FakeHost, key: str) -> None:
    supervisor, step = started(host)
    rebooted(host, supervisor, seconds=0.9)
    if key == "lost":
        host.remove(step.key_path)
    host.put("/etc/m.env", "A=2\n")
    step = service(supervisor, "k2")
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert supervisor.box["done"] == ["enable", "restart"] and isinstance(step.inspect(host), Satisfied)


@pytest.mark.parametrize("error", [0.0, 1.5])
def test_without_a_key_a_file_from_just_before_the_start_restarts_nothing(host: FakeHost, error: float) -> None:
    supervisor, step = started(host)
    host.remove(step.key_path)
    host.put("/etc/m.env", "A=0\n")  # a rollback has put it back
    host.clock += 0.1
    supervisor.box["state"] = replace(supervisor.box["state"], since=host.now() - error / 2, since_error=error)
    assert isinstance(step.inspect(host), Satisfied)


def test_after_a_reboot_a_plan_counts_the_restart_for_a_new_setting(host: FakeHost) -> None:
    supervisor, _ = started(host)
    rebooted(host, supervisor)
    assert isinstance(service(supervisor, "k2").inspect(host), Needed), "its file is not written yet"


def test_unknown_start_without_a_key_restarts(host: FakeHost) -> None:
    supervisor, step = started(host)
    host.remove(step.key_path)
    supervisor.box["state"] = replace(supervisor.box["state"], since=None)
    assert isinstance(step.inspect(host), Needed)


def test_clock_set_back_does_not_restart(host: FakeHost) -> None:
    supervisor, step = started(host)
    host.clock -= 100_000
    supervisor.box["state"] = replace(supervisor.box["state"], since=host.now() - 5)
    assert isinstance(step.inspect(host), Satisfied)


def test_changed_unit_file_is_read_again(host: FakeHost) -> None:
    supervisor, step = started(host)
    supervisor.box["state"] = replace(supervisor.box["state"], stale_file=True)
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    assert supervisor.box["done"][0] == "reload"


def test_killed_before_the_key_is_written_starts_again(host: FakeHost) -> None:
    supervisor, _ = started(host)
    step = service(supervisor, "k2")
    host.fail_at(1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        step.apply(host)
    assert isinstance(step.inspect(host), Needed)


def test_masked_unit_is_a_conflict(host: FakeHost) -> None:
    found = service(Scripted(box={"state": ServiceState(known=True, blocked=True), "done": []})).inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-SVC-101" and "unmask" in found.cure


def test_service_that_dies_says_why(host: FakeHost) -> None:
    with pytest.raises(StepFailed) as caught:
        service(Scripted(dies=True)).apply(host)
    assert caught.value.code == "NQR-SVC-102" and "cannot read /etc/x" in caught.value.what
    assert "journalctl -u m.service" in caught.value.cure


def test_failed_start_command_says_why(host: FakeHost) -> None:
    class Refusing(Scripted):
        def start(self, host: Host, name: str) -> None:
            raise CommandFailed(("systemctl",), 1, "Job failed")

    with pytest.raises(StepFailed) as caught:
        service(Refusing()).apply(host)
    assert "Job failed" in caught.value.what


def test_previous_state_is_remembered(host: FakeHost) -> None:
    state = ServiceState(known=True, enabled=True, active=True, since=1.0)
    prepared = service(Scripted(box={"state": state, "done": []})).prepare(host)
    assert prepared.origin is Origin.modified
    assert prepared.undo[-1].args["enabled"] and prepared.undo[-1].args["active"]


def test_health_is_waited_for(host: FakeHost) -> None:
    answers = [HostError("refused"), (503, b""), (200, b"ok")]

    def page(headers: object) -> tuple[int, bytes]:
        answer = answers.pop(0)
        if isinstance(answer, HostError):
            raise answer
        return answer

    host.pages["http://127.0.0.1:1/health"] = page
    Healthy("h", "http://127.0.0.1:1/health").apply(host)
    assert not answers and not host.mutations


def test_time_in_which_the_installer_was_stopped_is_not_waiting(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [500, 500, 500, 200]

    def stopped_for_an_hour(url: str, *, timeout: float = 10.0, **more: Any) -> tuple[int, bytes]:
        host.sleep(3600)
        return answers.pop(0), b""

    monkeypatch.setattr(host, "http_get", stopped_for_an_hour)
    Healthy("h", "http://127.0.0.1:1/health", 60).apply(host)
    assert not answers


def test_health_that_never_comes_tells_service_and_log(host: FakeHost) -> None:
    host.pages["http://127.0.0.1:1/health"] = (500, b"")
    supervisor = Scripted(box={"state": ServiceState(known=True, active=True, text="active (running)"), "done": []})
    with pytest.raises(StepFailed) as caught:
        Healthy("h", "http://127.0.0.1:1/health", 5, "m", supervisor).apply(host)
    assert caught.value.code == "NQR-SVC-104"
    assert "answered 500" in caught.value.what and "m.service is active" in caught.value.what
    assert "cannot read /etc/x" in caught.value.what


def test_waiting_ends_early_once_the_service_failed(host: FakeHost) -> None:
    host.pages["http://127.0.0.1:1/health"] = (500, b"")
    supervisor = Scripted(box={"state": ServiceState(known=True, failed=True), "done": []})
    before = host.monotonic()
    with pytest.raises(StepFailed):
        Healthy("h", "http://127.0.0.1:1/health", 500, "m", supervisor).apply(host)
    assert host.monotonic() - before < 5
