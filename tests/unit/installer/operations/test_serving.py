"""nqr services: order, once only, the guard first, guests before the agent, and the same words under systemd."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.observing import RELEASE, context_of
from tests.unit.installer.phases.a_host import fit

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.errors import NqrError, StepFailed, UsageError
from nqrust.installer.operations import serving
from nqrust.installer.phases.services import names_of, our_services
from nqrust.installer.release.sources import kept_release
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.sources import gather
from nqrust.installer.supervisor.supervisord import Supervisord

S = "/opt/nqrust-microvm/installer/venv/bin"
CONFIG = "/etc/nqrust-microvm/supervisord.conf"
OWN = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent", "nqrust-ui")
REQUEST = f"{paths.AGENT_STATE_DIR}/goes-down"


class _Site:
    def __init__(self, host: FakeHost, settings: Settings | None) -> None:
        self.host, self.installed_settings = host, settings


class Machine:
    """A host, what its supervisor was told, and which of its services run. `broken` ones never do."""

    def __init__(self, patch: pytest.MonkeyPatch, tmp_path: Any, *, systemd: bool) -> None:
        self.host, self.calls, self.running = FakeHost.debian12(), list[str](), set[str]()
        self.broken, self.requests, self.said = set[str](), list[str](), list[str]()
        self.vms: list[str] = []
        self.settings: Settings | None = gather(flags={}, environ={}).settings
        patch.setattr(paths, "LOCK_FILE", str(tmp_path / "lock"))
        patch.setattr(serving, "open_site", lambda events: _Site(self.host, self.settings))
        patch.setattr(serving, "scopes", lambda host, prefix: self.vms)
        patch.setattr(serving.asking, "at_start", self._guard)
        self.host.put_directory(paths.AGENT_STATE_DIR)
        self.host.put("/proc/1/comm", "systemd\n" if systemd else "sleep\n")
        self.host.put(f"{kept_release(gather(flags={}, environ={}).settings)}/release.json", RELEASE.model_dump_json())
        for name, port in (("manager", 18080), ("agent", 19090), ("ui", 3000)):
            component = RELEASE.component(name)
            assert component is not None
            self.host.pages[f"http://127.0.0.1:{port}{component.health}"] = (200, b"")
        if systemd:
            self.host.put_directory("/run/systemd/system")
            self.host.on("systemctl", prefix=True, answer=self._systemctl)
        else:
            self.host.remove_tree("/run/systemd")
            self.host.put(f"/etc/nqrust-microvm/supervisord.d/{serving.PROGRAM}.conf", "")
            self.host.on(*Supervisord().start_command, answer=self._supervisord)
            self.host.on(f"{S}/supervisorctl", "-c", CONFIG, prefix=True, answer=self._supervisorctl)

    def _guard(self, host: FakeHost) -> bool:
        self.calls.append("guard")
        return False

    def _supervisord(self, host: FakeHost, cmd: Command) -> None:
        self.calls.append("supervisord")
        host.put(f"{paths.RUN_DIR}/supervisord.pid", "77\n")
        host.put("/proc/77/cmdline", f"{S}/supervisord\0-c\0{CONFIG}\0")

    def _supervisorctl(self, host: FakeHost, cmd: Command) -> object:
        verb, name = cmd.argv[3], cmd.argv[-1]
        if verb == "status":
            known = (serving.PROGRAM, *OWN)
            return "".join(f"{n}  {'RUNNING  pid 9, uptime 0:00:05' if n in self.running else 'STOPPED'}\n" for n in known)
        if verb == "shutdown":
            host.remove(f"{paths.RUN_DIR}/supervisord.pid")
            self.running.clear()
        self._does(verb, name)
        return ""

    def _systemctl(self, host: FakeHost, cmd: Command) -> object:
        verb, name = cmd.argv[1], cmd.argv[-1].removesuffix(".service")
        if verb == "show":
            return (
                f"LoadState=loaded\nActiveState={'active' if name in self.running else 'inactive'}\nSubState=x\nResult=success\n"
            )
        self._does(verb, name)
        return ""

    def _does(self, verb: str, name: str) -> None:
        if verb in ("start", "stop", "shutdown"):
            self.calls.append(f"{verb} {name}".replace("shutdown shutdown", "shutdown"))
        if verb == "start" and name in self.broken:
            raise CommandFailed((verb, name), 1, "spawn error")
        if verb == "start":
            self.running.add(name)
        elif verb == "stop":
            if name == "nqrust-agent" and self.host.exists(REQUEST):
                self.requests.append(self.host.read_text(REQUEST).strip())
                self.vms.clear()
            self.running.discard(name)

    def start(self) -> serving.Services:
        return serving.start(self.said.append)

    def stop(self, seconds: int = 40) -> serving.Services:
        return serving.stop(seconds, self.said.append)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Machine:
    return Machine(monkeypatch, tmp_path, systemd=False)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Machine:
    return Machine(monkeypatch, tmp_path, systemd=True)


@pytest.mark.parametrize("mode", ["production", "minimal", "manager", "agent"])
def test_names_are_those_of_the_services_that_the_install_makes(mode: str, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("nqr_join\n")
    joining = {"agent.manager_base": "https://m:18080", "agent.join_token_file": str(tmp_path / "token")}
    flags = joining if mode == "agent" else {}
    found = gather(flags={"mode": mode, **flags}, environ={})
    assert names_of(found.settings) == tuple(spec.name for spec in our_services(context_of(found, fit())))


def test_start_runs_the_guard_before_supervisord_and_services_in_order(plain: Machine) -> None:
    plain.host.put(REQUEST, "40\n")
    assert plain.start().all_run
    assert plain.calls == ["guard", "supervisord", *(f"start {name}" for name in (serving.PROGRAM, *OWN))]
    assert not plain.host.exists(REQUEST), "an old request would end the VMs at the next stop of the agent"


def test_a_second_start_starts_nothing(plain: Machine) -> None:
    plain.start()
    plain.calls.clear()
    assert plain.start().all_run and plain.calls == ["guard"]
    assert plain.said[-1] == "nqrust-ui runs already."


def test_start_loads_the_modules_that_systemd_would(plain: Machine) -> None:
    plain.host.put("/etc/modules-load.d/nqrust-microvm.conf", "# by nqr\nkvm_intel\ntun\n")
    plain.host.put_directory("/sys/module/tun")
    plain.host.on("modprobe", prefix=True)
    plain.start()
    assert [cmd.argv for cmd in plain.host.commands if cmd.argv[0] == "modprobe"] == [("modprobe", "kvm_intel")]


def test_a_service_that_does_not_run_ends_the_start_with_its_log(plain: Machine) -> None:
    plain.broken.add("nqrust-manager")
    plain.host.put("/var/log/nqrust-microvm/nqrust-manager.log", "the disk is full\n")
    with pytest.raises(NqrError) as failed:
        plain.start()
    assert (failed.value.code, failed.value.exit_code) == ("NQR-SVC-105", 1) and "the disk is full" in failed.value.what
    assert "start nqrust-ui" not in plain.calls


def test_start_waits_until_the_services_answer(plain: Machine) -> None:
    for url in list(plain.host.pages):
        plain.host.pages[url] = (503, b"")
    with pytest.raises(StepFailed, match="NQR-SVC-104"):
        plain.start()


def test_stop_asks_guests_before_the_services_end_in_reverse_order(plain: Machine) -> None:
    plain.start()
    plain.calls.clear()
    plain.vms = ["fc-1", "fc-2"]
    assert not any(service.active for service in plain.stop(33).services)
    assert plain.requests == ["33"] and not plain.host.exists(REQUEST)
    assert "Asking 2 VMs to power off, for at most 33 s." in plain.said
    assert plain.calls == [f"stop {n}" for n in (OWN[3], OWN[4], *reversed(OWN[:3]))] + ["shutdown"]
    plain.calls.clear()
    plain.stop()
    assert plain.calls == [], "nothing runs"


def test_stop_without_time_for_guests_leaves_them_alone(plain: Machine) -> None:
    plain.start()
    plain.vms = ["fc-1"]
    plain.stop(0)
    assert plain.requests == [] and "1 VM still runs." in plain.said


def test_systemd_hosts_do_the_same_with_systemctl(systemd: Machine) -> None:
    found = systemd.start()
    assert (found.supervisor, found.all_run) == ("systemd", True)
    assert systemd.calls == [f"start {name}" for name in OWN], "its boot units run the guard"
    systemd.vms = ["fc-1"]
    systemd.stop(5)
    assert systemd.requests == ["5"] and systemd.running == set()


@pytest.mark.parametrize("verb", ["start", "stop", "show"])
def test_a_host_without_an_installation_is_refused(verb: str, plain: Machine) -> None:
    plain.settings = None
    with pytest.raises(UsageError, match="NQR-USE-020"):
        serving.show() if verb == "show" else getattr(plain, verb)()


def test_a_supervisor_that_does_not_stop_a_service_is_reported(systemd: Machine) -> None:
    systemd.start()
    systemd.host.on("systemctl", "stop", "nqrust-manager.service", answer=CommandFailed(("systemctl",), 1, "timed out"))
    with pytest.raises(NqrError, match="NQR-SVC-106"):
        systemd.stop()
