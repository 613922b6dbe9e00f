"""A service that is enabled and runs with its current files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.spec import ServiceState
from nqrust.installer.verbs.file.undo import undo_directory
from nqrust.installer.verbs.service.undo import undo_unit

KEYS_DIR = f"{paths.STATE_DIR}/started"
"""Kept over a reboot: a service that the boot started a moment ago cannot be told by times from one that reads a new file."""

_POLL = 0.25
_MARGIN = 1.5  # seconds: the digest has proven most, and clocks are set sometimes


@dataclass(frozen=True)
class Service:
    """A service. An earlier step writes its file. `restart_key`: a digest of all it reads. The step restarts it if the digest
    differs from the last start's, or if a file of `watch` is newer. `deadline` in seconds."""

    kind: ClassVar[str] = "service"

    name: str
    supervisor: Supervisor
    enabled: bool = True
    restart_key: str = ""
    watch: tuple[str, ...] = ()
    deadline: float = 60.0
    settle: float = 0.5

    @property
    def id(self) -> str:
        return f"service:{self.name.removesuffix('.service')}"

    @property
    def key_path(self) -> str:
        return f"{KEYS_DIR}/{self.supervisor.unit_name(self.name)}"

    def describe(self) -> str:
        return f"run {self.supervisor.unit_name(self.name)}"

    def inspect(self, host: Host) -> Inspection:
        unit, state = self.supervisor.unit_name(self.name), self.supervisor.state(host, self.name)
        if state.blocked:
            return Conflict(
                "NQR-SVC-101",
                f"{unit} is masked, so it cannot be started.",
                f"Unmask it (systemctl unmask {unit}), then run the same command again.",
            )
        diff: list[str] = []
        if self.enabled and not state.enabled:
            diff.append(f"enable {unit}")
        if not state.active:
            diff.append(f"start {unit}")
        elif state.stale_file or not self._runs_current(host, state):
            diff.append(f"restart {unit} (what it reads has changed)")
        return Needed(tuple(diff)) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        state = self.supervisor.state(host, self.name)
        unit = undo_unit(
            self.supervisor.name,
            self.supervisor.unit_name(self.name),
            enabled=state.known and state.enabled,
            active=state.active,
        )
        # A revert always removes the key: without it, the next run compares start and file times.
        key = Undo("file", {"path": self.key_path, "ours": None, "prior": None})
        folder = [] if host.exists(KEYS_DIR) else [undo_directory(KEYS_DIR)]
        record = Undo(unit.verb, {**unit.args, **self.supervisor.undo_arguments()}, unit.retain)
        was_there = state.known and (state.enabled or state.active)
        return Prepared(Origin.modified if was_there else Origin.created, (*folder, key, record))

    def apply(self, host: Host) -> None:
        state = self.supervisor.state(host, self.name)
        if state.stale_file or not state.known:
            self.supervisor.reload(host)
        if self.enabled:
            self.supervisor.enable(host, self.name)
        try:
            if state.active:
                self.supervisor.restart(host, self.name)
            else:
                self.supervisor.start(host, self.name)
        except (CommandFailed, CommandTimedOut) as error:
            raise self._failed(host, str(error)) from error
        self._wait(host)
        self._remember(host)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _runs_current(self, host: Host, state: ServiceState) -> bool:
        try:
            if host.read_text(self.key_path).strip() != self.restart_key:
                return False
            margin = _MARGIN
        except HostError:
            if state.since is None:
                return False
            margin = state.since_error
        if state.since is None:
            return True
        now = host.now()
        for path in (self.supervisor.unit_path(self.name), *self.watch):
            stat = host.stat(path)
            # A time in the future shows that the clock was set back, and proves no order.
            if stat is not None and state.since + margin < stat.mtime_ns / 1e9 <= now:
                return False
        return True

    def _wait(self, host: Host) -> None:
        end = host.monotonic() + self.deadline
        up_since: float | None = None
        while True:
            state = self.supervisor.state(host, self.name)
            now = host.monotonic()
            if not state.active:
                up_since = None
            elif up_since is None:
                up_since = now
            elif now - up_since >= self.settle:
                return
            if state.failed or (now > end and up_since is None):
                raise self._failed(host, f"it is {state.text}")
            host.sleep(_POLL)

    def _remember(self, host: Host) -> None:
        for path, mode in ((paths.STATE_DIR, 0o711), (KEYS_DIR, 0o755)):
            if not host.exists(path):
                host.mkdir(path, mode=mode)
        host.write_file(self.key_path, f"{self.restart_key}\n".encode(), mode=0o644)

    def _failed(self, host: Host, why: str) -> StepFailed:
        unit, said = self.supervisor.unit_name(self.name), self.supervisor.log_tail(host, self.name)
        tail = "".join(f"\n    {line}" for line in said)
        return StepFailed(
            "NQR-SVC-102",
            f"{unit} does not run: {why.rstrip('.')}." + (f" Its last output:{tail}" if tail else ""),
            f"Read its log ({self.supervisor.log_hint(self.name)}), fix the problem that it names, then run the same command again.",
        )
