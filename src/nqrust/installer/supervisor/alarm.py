"""An alarm: a script that runs after some seconds, and at the next boot, unless it is called off. It needs no process of nqr.

A supervisor has one implementation: systemd_alarm.py, detached_alarm.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from nqrust.host.port import Host


@dataclass(frozen=True)
class Alarm:
    """An alarm. `folder` holds `script`, a POSIX sh script with the verbs below, and the files named in `pending`, of which one
    exists while the script has work to do.

    - `fire`: run now; a failure is tried again.
    - `early`, `late`: run at a boot, before and after the network managers start.
    - `watch SECONDS`: sleep, then do the same as `fire`.
    - `start`: run at the start of a machine without systemd.
    """

    name: str
    description: str
    folder: str
    script: str
    pending: tuple[str, ...]

    @property
    def watcher(self) -> str:
        """The process that runs `watch`: its number and start time (proc_pid_stat(5), field 22)."""
        return f"{self.folder}/watcher"

    @property
    def log(self) -> str:
        return f"{self.folder}/log"


class Alarms(Protocol):
    """How a machine keeps alarms. Methods raise HostError."""

    @property
    def name(self) -> str: ...

    def set(self, host: Host, alarm: Alarm, seconds: int) -> None:
        """Start the alarm. It goes off in `seconds` of the monotonic clock, whoever lives then."""
        ...

    def is_set(self, host: Host, alarm: Alarm) -> bool: ...

    def go_off(self, host: Host, alarm: Alarm) -> None:
        """Run the script now, outside the process that asks, and do not wait for it."""
        ...

    def clear(self, host: Host, alarm: Alarm) -> None:
        """Remove the alarm. A script that runs already is not stopped. Safe to repeat."""
        ...

    def tidy(self, alarm: Alarm) -> tuple[str, ...]:
        """Return lines of POSIX sh with which the script removes its alarm once its work is done."""
        ...

    def undo_arguments(self) -> dict[str, Any]:
        """Return what an undo record keeps, so that `alarms_of` finds the same alarms again."""
        ...

    def log_hint(self, alarm: Alarm) -> str:
        """Return a command for people to read the script's output."""
        ...
