"""Alarms without systemd: a process in its own session, and a program file for the next start of supervisord.

The process holds no file, terminal or pipe of the program that set the alarm. A start of the machine runs `SCRIPT start` before
anything of the network: the entrypoint, `nqr`, or supervisord, whichever is first.
"""

from __future__ import annotations

import posixpath
import shlex
import signal
from dataclasses import dataclass
from typing import Any

from nqrust.contract import paths
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.supervisor.alarm import Alarm

_DETACH = 'setsid sh "$1" "$2" $3 </dev/null >>"$4" 2>&1 &'
_START_SECONDS = 5.0


@dataclass(frozen=True)
class DetachedAlarms:
    """`programs_dir`: supervisord's folder of program files, used if it exists."""

    programs_dir: str = f"{paths.CONFIG_DIR}/supervisord.d"
    name: str = "supervisord"

    def set(self, host: Host, alarm: Alarm, seconds: int) -> None:
        if host.exists(self.programs_dir):
            host.write_file(self._program(alarm), program_file(alarm).encode())
        host.remove(alarm.watcher)
        host.run(command("sh", "-c", _DETACH, "sh", alarm.script, "watch", str(seconds), alarm.log))
        deadline = host.monotonic() + _START_SECONDS
        while not self.is_set(host, alarm):
            if host.monotonic() > deadline:
                raise HostError(f"the process of the {alarm.name} did not start")
            host.sleep(0.1)

    def is_set(self, host: Host, alarm: Alarm) -> bool:
        return watcher(host, alarm) > 0

    def go_off(self, host: Host, alarm: Alarm) -> None:
        host.run(command("sh", "-c", _DETACH, "sh", alarm.script, "watch", "0", alarm.log))

    def clear(self, host: Host, alarm: Alarm) -> None:
        pid = watcher(host, alarm)
        if pid:
            host.kill(pid, signal.SIGTERM)
        host.remove(alarm.watcher)
        if host.exists(posixpath.dirname(self._program(alarm))):
            host.remove(self._program(alarm))

    def tidy(self, alarm: Alarm) -> tuple[str, ...]:
        return (
            # Another process than this one sleeps if nqr asked for the alarm early. It would end the next alarm.
            'if watched && [ "$pid" != "$$" ]; then kill "$pid"; fi',
            f"rm -f {shlex.quote(self._program(alarm))} {shlex.quote(alarm.watcher)}",
        )

    def undo_arguments(self) -> dict[str, Any]:
        return {"supervisor": self.name, "programs_dir": self.programs_dir}

    def log_hint(self, alarm: Alarm) -> str:
        return f"tail -n 50 {alarm.log}"

    def _program(self, alarm: Alarm) -> str:
        return f"{self.programs_dir}/{alarm.name}.conf"


def program_file(alarm: Alarm) -> str:
    """Return supervisord's program file: `start` does nothing while the process of the alarm lives."""
    return "\n".join((
        f"; {alarm.description}",
        f"[program:{alarm.name}]",
        f"command=/bin/sh {alarm.script} start",
        "priority=1",
        "autostart=true",
        "autorestart=unexpected",
        "startsecs=0",
        "startretries=1000",
        "redirect_stderr=true",
        f"stdout_logfile={alarm.log}",
        "stdout_logfile_maxbytes=0",
        "",
    ))  # fmt: skip


def watcher(host: Host, alarm: Alarm) -> int:
    """Return the number of the alarm's process, 0 if it is gone."""
    try:
        pid, since = host.read_text(alarm.watcher).split()
        alive = host.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19] == since
    except (HostError, ValueError, IndexError):
        return 0
    return int(pid) if alive else 0
