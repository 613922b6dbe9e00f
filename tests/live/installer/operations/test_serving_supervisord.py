"""nqr services with the real supervisord: it starts, is left alone, comes back after a kill of all of it, and ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from nqrust.contract import paths
from nqrust.host.local import LocalHost
from nqrust.installer.operations import serving
from nqrust.installer.phases import services as phase
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.spec import Hardening, ServiceSpec
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.verbs.postgres.cluster import PROGRAM
from nqrust.installer.verbs.service.supervisord import supervisord_pid

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (BIN / "supervisord").exists(), reason="needs root and supervisord beside Python"
)
NAMES = (PROGRAM, *phase.names_of(Settings()))
AGENT = 'trap \'cp "$1" "$2"; exit 0\' TERM; while :; do sleep 0.1; done'
"""A stand-in that keeps a copy of the request that it finds when it ends."""


@dataclass
class Platform:
    """Programs that only wait, as the services of an installation in a folder."""

    host: LocalHost
    supervisord: Supervisord
    seen: Path
    said: list[str]

    def pids(self) -> dict[str, int]:
        return {name: self.supervisord.state(self.host, name).pid for name in NAMES}


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    state, seen = tmp_path / "state", tmp_path / "seen"
    state.mkdir()
    (tmp_path / "log").mkdir()
    s = Supervisord(str(BIN), str(tmp_path / "supervisord.conf"), str(tmp_path / "run"), str(tmp_path / "log"))
    Path(s.programs_dir).mkdir()
    Path(s.config).write_text(s.render_main())
    for number, name in enumerate(NAMES):
        spec = ServiceSpec(name, name, ("/bin/sleep", "1000"), order=number, hardening=Hardening.none)
        if name == phase.AGENT:
            spec = replace(spec, argv=("/bin/sh", "-c", AGENT, "sh", f"{state}/{paths.GOES_DOWN}", str(seen)))
        if name == phase.NETWORK:
            spec = replace(spec, argv=("/bin/true",), oneshot=True)
        Path(s.unit_path(name)).write_text(s.render(spec))
    host = LocalHost()
    monkeypatch.setattr(paths, "LOCK_FILE", str(tmp_path / "lock"))
    monkeypatch.setattr(paths, "AGENT_STATE_DIR", str(state))
    monkeypatch.setattr(serving, "MODULES_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(serving.asking, "at_start", lambda host: False)
    monkeypatch.setattr(serving, "on_this_host", lambda: serving.Here(host, Settings(), s))
    monkeypatch.setattr(serving, "_supervisord", lambda here: s)
    monkeypatch.setattr(serving, "scopes", lambda host, prefix: ["fc-1"])
    made = Platform(host, s, seen, [])
    try:
        yield made
    finally:
        pid = supervisord_pid(host, s)
        if pid:
            _kill_all(pid)


def _kill_all(pid: int) -> None:
    """As a power cut does: supervisord first, so that it restarts nothing."""
    top = psutil.Process(pid)
    children = top.children(recursive=True)
    for process in (top, *children):
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs([top, *children], 10)


def test_services_come_back_and_end_under_the_real_supervisord(platform: Platform) -> None:
    assert serving.start(platform.said.append).all_run and "supervisord runs now." in platform.said
    first = platform.pids()
    assert all(first.values())
    platform.said.clear()
    assert serving.start(platform.said.append).all_run and platform.pids() == first
    assert platform.said == [f"{name} runs already." for name in NAMES]

    running = supervisord_pid(platform.host, platform.supervisord)
    assert running is not None
    _kill_all(running)
    assert not serving._shown(serving.on_this_host()).all_run, "files of the old supervisord prove nothing"
    assert serving.start(platform.said.append).all_run and not set(platform.pids().values()) & set(first.values())

    found = serving.stop(12, platform.said.append)
    assert not any(service.active for service in found.services)
    assert platform.seen.read_text() == "12\n", "the agent finds the request when it ends"
    assert supervisord_pid(platform.host, platform.supervisord) is None
    assert not Path(paths.AGENT_STATE_DIR, paths.GOES_DOWN).exists()
    assert serving.start(platform.said.append).all_run


def test_one_stopped_program_is_started_and_the_others_are_left_alone(platform: Platform) -> None:
    serving.start(platform.said.append)
    platform.supervisord.stop(platform.host, phase.MANAGER)
    platform.said.clear()
    serving.start(platform.said.append)
    assert [line for line in platform.said if "runs now" in line] == [f"{phase.MANAGER} runs now."]
