"""Alarms: what is started, what a boot does, and what is left."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import HostError
from nqrust.host.port import Command, Completed
from nqrust.installer.supervisor.alarm import Alarm
from nqrust.installer.supervisor.detached_alarm import DetachedAlarms
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.supervisor.systemd_alarm import SystemdAlarms, units

ALARM = Alarm("guard", "Guards", "/var/lib/x", "/var/lib/x/restore", ("/var/lib/x/armed", "/var/lib/x/fired"))
TIMER = "/run/systemd/system/guard.timer"
PROGRAMS = "/etc/nqrust-microvm/supervisord.d"


@pytest.fixture
def host() -> FakeHost:
    made = FakeHost.debian12()
    for folder in ("/run/systemd/system", "/etc/systemd/system", "/var/lib/x"):
        made.put_directory(folder)
    made.on("systemctl", prefix=True, changes=True)
    return made


def test_timer_counts_on_the_monotonic_clock_and_is_punctual(host: FakeHost) -> None:
    SystemdAlarms().set(host, ALARM, 90)
    text = host.read_text(TIMER)
    assert "OnActiveSec=90s\n" in text and "AccuracySec=100ms\n" in text and "OnCalendar" not in text
    assert ("run", "systemctl", "start", "guard.timer") in host.mutations


def test_script_is_tried_again_and_what_it_started_outlives_it() -> None:
    for path in ("/run/systemd/system/guard.service", "/etc/systemd/system/guard-late.service"):
        lines = units(ALARM, 90)[path].splitlines()
        assert {"Restart=on-failure", "KillMode=process", "StartLimitIntervalSec=0", "Type=simple"} <= set(lines)


def test_boot_units_work_only_in_a_later_boot_and_only_with_work_to_do() -> None:
    """Any start of a unit can start a wanted unit of sysinit.target again. The timer's file shows that it is the same boot."""
    for name in ("early", "late"):
        text = units(ALARM, 90)[f"/etc/systemd/system/guard-{name}.service"]
        assert f"ConditionPathExists=!{TIMER}\n" in text
        assert "ConditionPathExists=|/var/lib/x/armed\nConditionPathExists=|/var/lib/x/fired\n" in text
        assert f"ExecStart=/bin/sh /var/lib/x/restore {name}\n" in text


def test_files_come_back_before_the_network_managers_start() -> None:
    text = units(ALARM, 90)["/etc/systemd/system/guard-early.service"]
    before = next(line for line in text.splitlines() if line.startswith("Before="))
    assert {"network-pre.target", "systemd-networkd.service", "NetworkManager.service", "networking.service"} <= set(
        before.removeprefix("Before=").split()
    )
    assert "DefaultDependencies=no\n" in text and "RequiresMountsFor=/var/lib/x\n" in text
    assert text.endswith("[Install]\nWantedBy=sysinit.target\n")


def test_timer_that_does_not_start_is_an_error(host: FakeHost) -> None:
    host.on("systemctl", "is-active", prefix=True, answer=Completed((), 3, "", ""))
    with pytest.raises(HostError, match="timer guard"):
        SystemdAlarms().set(host, ALARM, 90)


def test_cleared_timer_leaves_nothing(host: FakeHost) -> None:
    SystemdAlarms().set(host, ALARM, 90)
    SystemdAlarms().clear(host, ALARM)
    SystemdAlarms().clear(host, ALARM)
    assert not any(host.exists(path) for path in units(ALARM, 90))
    assert ("run", "systemctl", "disable", "--quiet", "guard-early.service", "guard-late.service") in host.mutations


def test_script_removes_all_that_the_alarm_made() -> None:
    lines = "\n".join(SystemdAlarms().tidy(ALARM))
    assert all(path in lines for path in units(ALARM, 90))
    assert "sysinit.target.wants/guard-early.service" in lines and "multi-user.target.wants/guard-late.service" in lines


def _starts(host: FakeHost, cmd: Command) -> None:
    host.put("/var/lib/x/watcher", "77 4711\n")
    host.put("/proc/77/stat", "77 (sh) S " + " ".join(["0"] * 18 + ["4711", "0"]))
    host.processes.add(77)


def test_process_has_its_own_session_and_no_file_of_the_installer(host: FakeHost) -> None:
    host.on("sh", "-c", prefix=True, answer=_starts)
    DetachedAlarms().set(host, ALARM, 90)
    line = host.commands[-1].argv[2]
    assert line.startswith("setsid ") and "</dev/null" in line and '>>"$4" 2>&1 &' in line
    assert host.commands[-1].argv[4:] == ("/var/lib/x/restore", "watch", "90", "/var/lib/x/log")
    assert DetachedAlarms().is_set(host, ALARM)
    host.put("/proc/77/stat", "77 (other) S " + " ".join(["0"] * 18 + ["4712", "0"]))
    assert not DetachedAlarms().is_set(host, ALARM), "the number belongs to another process now"


def test_process_that_does_not_start_is_an_error(host: FakeHost) -> None:
    host.on("sh", "-c", prefix=True)
    with pytest.raises(HostError, match="did not start"):
        DetachedAlarms().set(host, ALARM, 90)


def test_next_start_of_supervisord_runs_the_script_first(host: FakeHost) -> None:
    host.put_directory(PROGRAMS)
    host.on("sh", "-c", prefix=True, answer=_starts)
    DetachedAlarms(PROGRAMS).set(host, ALARM, 90)
    text = host.read_text(f"{PROGRAMS}/guard.conf")
    assert "command=/bin/sh /var/lib/x/restore start\n" in text and "priority=1\n" in text
    DetachedAlarms(PROGRAMS).clear(host, ALARM)
    assert not host.exists(f"{PROGRAMS}/guard.conf") and host.signals == [(77, 15)]


def test_process_that_ended_is_not_signalled(host: FakeHost) -> None:
    host.put("/var/lib/x/watcher", "78 1\n")
    DetachedAlarms().clear(host, ALARM)
    assert host.signals == []


def test_each_supervisor_has_its_alarms() -> None:
    assert [alarms_of(name).name for name in ("systemd", "none", "supervisord")] == ["systemd", "supervisord", "supervisord"]
    assert alarms_of("none", "/x") == DetachedAlarms("/x")
