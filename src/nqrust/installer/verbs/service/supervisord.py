"""nqr's running supervisord (machines whose PID 1 is not systemd)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.verbs.file.undo import undo_directory
from nqrust.installer.verbs.service.undo import undo_supervisord

_START_SECONDS = 30.0
_STARTING = "STARTING"  # a state of supervisorctl(1)


@dataclass(frozen=True)
class SupervisordRunning:
    """A running supervisord. Earlier steps create its configuration, log folder and programs folder. It outlives the
    installer as a daemon in its own session. It starts every existing program file (after a reboot), and this step waits for
    them: one sets up the network, which a later step must not do at the same time."""

    kind: ClassVar[str] = "supervisord"

    supervisor: Supervisord

    @property
    def id(self) -> str:
        return f"supervisord:{self.supervisor.config}"

    def describe(self) -> str:
        return "run supervisord, which keeps the services running"

    def inspect(self, host: Host) -> Inspection:
        if supervisord_pid(host, self.supervisor) is not None:
            return Satisfied()
        return Needed((f"start {self.supervisor.program} -c {self.supervisor.config}",))

    def prepare(self, host: Host) -> Prepared:
        s = self.supervisor
        folder = () if host.exists(s.run_dir) else (undo_directory(s.run_dir),)
        # supervisord removes both at a normal exit, but not when it is killed.
        left = tuple(Undo("file", {"path": p, "ours": None, "prior": None}) for p in (s.socket, s.pid_file))
        return Prepared(Origin.created, (*folder, *left, undo_supervisord(s.config, s.program)))

    def apply(self, host: Host) -> None:
        s = self.supervisor
        if not host.exists(s.run_dir):
            host.mkdir(s.run_dir, mode=0o755)
        try:
            host.run(command(*s.start_command, timeout=_START_SECONDS))
        except CommandFailed as error:
            raise self._failed(str(error)) from error
        end = host.monotonic() + _START_SECONDS
        while True:
            try:
                host.run(command(*s.control, "pid"))
                break
            except HostError as error:
                if host.monotonic() > end:
                    raise self._failed(str(error)) from error
            host.sleep(0.2)
        while host.monotonic() < end and _STARTING in host.run(command(*s.control, "status", ok=(0, 3, 4))).stdout.split():
            host.sleep(0.2)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _failed(self, why: str) -> StepFailed:
        return StepFailed(
            "NQR-SVC-103",
            f"supervisord, which runs the services on a machine without systemd, did not start: {why.rstrip('.')}.",
            f"Read {self.supervisor.log_dir}/supervisord.log, fix the problem that it names, then run the same command again.",
        )


def supervisord_pid(host: Host, supervisor: Supervisord) -> int | None:
    """Return the PID of the supervisord with nqr's configuration; a PID file alone proves nothing."""
    try:
        pid = host.read_text(supervisor.pid_file).strip()
        words = host.read_bytes(f"/proc/{int(pid)}/cmdline").split(b"\0")
    except (HostError, ValueError):
        return None
    return int(pid) if supervisor.config.encode() in words else None
