"""Alarms under systemd: a timer in /run, which a boot forgets, and two units for the next boot.

The files are written instead of `systemd-run`, because RHEL 8's version takes too few properties of transient units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.supervisor.alarm import Alarm
from nqrust.installer.supervisor.systemd import UNIT_DIR

RUN_DIR = "/run/systemd/system"
_SHELL = "/bin/sh"


@dataclass(frozen=True)
class SystemdAlarms:
    name: str = "systemd"

    def set(self, host: Host, alarm: Alarm, seconds: int) -> None:
        for folder in (RUN_DIR, UNIT_DIR):
            if not host.exists(folder):
                host.mkdir(folder)
        for path, text in units(alarm, seconds).items():
            host.write_file(path, text.encode(), synced=not path.startswith("/run/"))
        host.run(command("systemctl", "daemon-reload"))
        host.run(command("systemctl", "enable", "--quiet", *boot_units(alarm)))
        host.run(command("systemctl", "start", f"{alarm.name}.timer"))
        if not self.is_set(host, alarm):
            raise HostError(f"the timer {alarm.name}.timer did not start")

    def is_set(self, host: Host, alarm: Alarm) -> bool:
        return host.run(command("systemctl", "is-active", "--quiet", f"{alarm.name}.timer", ok=(0, 1, 2, 3, 4))).code == 0

    def go_off(self, host: Host, alarm: Alarm) -> None:
        host.run(command("systemctl", "start", "--no-block", f"{alarm.name}.service"))

    def clear(self, host: Host, alarm: Alarm) -> None:
        host.run(command("systemctl", "stop", f"{alarm.name}.timer", ok=(0, 1, 5)))
        if any(host.exists(f"{UNIT_DIR}/{unit}") for unit in boot_units(alarm)):
            host.run(command("systemctl", "disable", "--quiet", *boot_units(alarm), ok=(0, 1, 5)))
        for path in units(alarm, 0):
            host.remove(path)
        host.run(command("systemctl", "daemon-reload"))

    def tidy(self, alarm: Alarm) -> tuple[str, ...]:
        return (
            f"systemctl stop --no-block {alarm.name}.timer 2>/dev/null",
            f"rm -f {UNIT_DIR}/sysinit.target.wants/{alarm.name}-early.service "
            f"{UNIT_DIR}/multi-user.target.wants/{alarm.name}-late.service",
            f"rm -f {' '.join(units(alarm, 0))}",
            # Without its file, a service that runs stops all of its processes at its end: a DHCP client of the way back, too.
            "{ while kill -0 $$; do sleep 1; done; systemctl daemon-reload; } >/dev/null 2>&1 9<&- &",
        )

    def undo_arguments(self) -> dict[str, Any]:
        return {"supervisor": self.name}

    def log_hint(self, alarm: Alarm) -> str:
        return f"journalctl -u '{alarm.name}*'"


def boot_units(alarm: Alarm) -> tuple[str, str]:
    return f"{alarm.name}-early.service", f"{alarm.name}-late.service"


def units(alarm: Alarm, seconds: int) -> dict[str, str]:
    """Return path -> content. A unit of the boot does nothing in the boot that set the alarm, whatever starts it: the timer's
    file is there."""
    timer = f"{RUN_DIR}/{alarm.name}.timer"
    early, late = boot_units(alarm)
    head = [f"Description={alarm.description}", "StartLimitIntervalSec=0"]
    boot = [f"ConditionPathExists=!{timer}", *(f"ConditionPathExists=|{path}" for path in alarm.pending)]
    # A manager's DHCP client that the script starts must outlive it.
    repeated = ["KillMode=process", "Restart=on-failure", "RestartSec=5"]
    return {
        timer: _unit(
            [f"Description={alarm.description}"],
            "Timer",
            # A timer may be a minute late by default (systemd.timer(5), AccuracySec=).
            [f"OnActiveSec={seconds}s", "AccuracySec=100ms", f"Unit={alarm.name}.service"],
        ),
        f"{RUN_DIR}/{alarm.name}.service": _unit(
            head, "Service", ["Type=simple", f"ExecStart={_SHELL} {alarm.script} fire", *repeated]
        ),
        f"{UNIT_DIR}/{early}": _unit(
            [
                f"Description={alarm.description} (before the network)",
                "DefaultDependencies=no",
                f"RequiresMountsFor={alarm.folder}",
                "After=local-fs.target systemd-remount-fs.service",
                "Before=network-pre.target systemd-networkd.service NetworkManager.service networking.service sysinit.target",
                "Wants=network-pre.target",
                *boot,
            ],
            "Service",
            ["Type=oneshot", "RemainAfterExit=yes", f"ExecStart={_SHELL} {alarm.script} early"],
            "sysinit.target",
        ),
        f"{UNIT_DIR}/{late}": _unit(
            [*head, "After=network.target", *boot],
            "Service",
            ["Type=simple", f"ExecStart={_SHELL} {alarm.script} late", *repeated],
            "multi-user.target",
        ),
    }


def _unit(unit: list[str], section: str, lines: list[str], wanted_by: str = "") -> str:
    install = ["", "[Install]", f"WantedBy={wanted_by}"] if wanted_by else []
    return "\n".join(["# Written by nqr.", "[Unit]", *unit, "", f"[{section}]", *lines, *install, ""])
