"""Packages of the distribution, in one transaction of its package manager."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.file.undo import undo_file
from nqrust.installer.verbs.packages.manager import Installing, StartPolicy, trusting
from nqrust.installer.verbs.packages.undo import undo_packages

LOCK_WAIT = 600.0
"""Maximum seconds to wait for another program's lock."""
_REFUSALS = 5


@dataclass(frozen=True)
class PackageIndex:
    """The package manager's index. The step refreshes it only if a name is not installed, and the index is missing, older
    than a day or lacks a name. It is a cache, so there is nothing to undo."""

    kind: ClassVar[str] = "package-index"

    names: tuple[str, ...]
    manager: Installing
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def id(self) -> str:
        return "package-index"

    def describe(self) -> str:
        return f"refresh the package index ({self.manager.name})"

    def inspect(self, host: Host) -> Inspection:
        missing = _missing(host, self.manager, self.names)
        why = self.manager.index_missing(host, missing) if missing else None
        return Satisfied() if why is None else Needed((f"refresh: {why}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        missing = _missing(host, self.manager, self.names)
        try:
            run_when_free(host, self.manager, self.manager.refresh(), self.progress)
        except CommandFailed as error:
            if self.manager.index_missing(host, missing) is None:
                return  # no newer index, but the present one knows every name
            raise index_failed(self.manager, error) from error

    def verify(self, host: Host) -> None:
        """Check nothing: the transaction proves that the index is good enough, and an old mirror may stay old."""


@dataclass(frozen=True)
class Packages:
    """Packages of one transaction. `hold_services`: keep package scripts from starting services (hosts without systemd, whose
    services nqr supervises). `residue_users`, `residue_groups`: accounts that the packages create and their purge leaves;
    uninstall removes those that are missing now. Put a PackageIndex step before: `prepare` resolves the whole transaction."""

    kind: ClassVar[str] = "packages"

    names: tuple[str, ...]
    manager: Installing
    label: str = "platform"
    hold_services: bool = False
    residue_users: tuple[str, ...] = ()
    residue_groups: tuple[str, ...] = ()
    progress: Progress = field(default=silent, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"packages:{self.label}"

    def describe(self) -> str:
        return f"install packages ({', '.join(self.names)})"

    def inspect(self, host: Host) -> Inspection:
        missing = _missing(host, self.manager, self.names)
        diff = tuple(f"+ {name}" for name in missing)
        policy = self._policy()
        if policy is not None and self._left_behind(host, policy):
            diff += (f"- {policy.path} (left by an interrupted run)",)
        return Needed(diff) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        missing = _missing(host, self.manager, self.names)
        manager = self.manager
        undo = undo_packages(manager.name, manager.recorded(host), manager.manual(host), manager.config_only(host))
        residue = {
            "users": [name for name in self.residue_users if host.user(name) is None],
            "groups": [name for name in self.residue_groups if host.group(name) is None],
        }
        brought = self._would_bring(host, missing) if missing else []
        records = [Undo(undo.verb, {**undo.args, "brought": brought, "residue": residue}, undo.retain)]
        policy = self._policy()
        if policy is not None and (host.stat(policy.path) is None or self._left_behind(host, policy)):
            records.append(undo_file(policy.path, ours_sha256=hashlib.sha256(policy.content).hexdigest()))
        return Prepared(Origin.created, tuple(records))

    def apply(self, host: Host) -> None:
        if self.manager.interrupted(host):
            self.progress("completing an interrupted package installation", None)
            for cmd in self.manager.repair(host):
                self._run(host, cmd)
        missing = _missing(host, self.manager, self.names)
        policy = self._policy()
        placed = policy is not None and self._place(host, policy)
        try:
            if missing:
                self._install(host, missing)
        finally:
            if placed and policy is not None:
                host.remove(policy.path)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # --- the transaction
    def _install(self, host: Host, missing: tuple[str, ...]) -> None:
        try:
            self._run(host, self.manager.install(missing))
        except CommandFailed as error:
            if not self.manager.outdated_index(error):
                raise transaction_failed(self.manager, error) from error
            self.progress("refreshing the package index", None)
            try:
                self._run(host, self.manager.refresh())
                self._run(host, self.manager.install(missing))
            except CommandFailed as second:
                raise transaction_failed(self.manager, second) from second

    def _run(self, host: Host, cmd: Command) -> None:
        run_when_free(host, self.manager, cmd, self.progress)

    def _would_bring(self, host: Host, missing: tuple[str, ...]) -> list[str]:
        try:
            return self.manager.would_bring(host, missing)
        except CommandFailed as error:
            if self.manager.interrupted(host) or self.manager.outdated_index(error):
                return sorted(missing)  # the interrupted transaction's own record contains its packages
            raise transaction_failed(self.manager, error) from error

    # --- services that scripts must not start
    def _policy(self) -> StartPolicy | None:
        return self.manager.start_policy if self.hold_services else None

    def _left_behind(self, host: Host, policy: StartPolicy) -> bool:
        stat = host.stat(policy.path)
        return stat is not None and stat.size == len(policy.content) and host.read_bytes(policy.path) == policy.content

    def _place(self, host: Host, policy: StartPolicy) -> bool:
        """Return whether the current policy is nqr's. A foreign policy stays and decides."""
        if host.stat(policy.path) is None:
            host.write_file(policy.path, policy.content, mode=policy.mode)
            return True
        return self._left_behind(host, policy)


@dataclass
class _Counted:
    """Converter of output lines to progress, with a fraction once the number of packages is known."""

    manager: Installing
    progress: Progress
    announced: int = 0
    done: float = 0.0

    def __call__(self, line: str) -> None:
        said = self.manager.parse_output(line)
        if said.announced is not None:
            self.announced = said.announced
        self.done += said.share
        if said.text is not None:
            self.progress(said.text, min(1.0, self.done / self.announced) if self.announced else None)


def run_when_free(host: Host, manager: Installing, cmd: Command, progress: Progress) -> None:
    """Run a package manager's command once its lock is free, and name the holder while waiting.

    Raises StepFailed NQR-DEP-101 after LOCK_WAIT, CommandFailed if the command fails.
    """
    for attempt in range(_REFUSALS):
        _wait_for_lock(host, manager, progress)
        try:
            host.run(trusting(host, manager, cmd), on_line=_Counted(manager, progress))
            return
        except CommandFailed as error:
            if not manager.lock_refused(error) or attempt == _REFUSALS - 1:
                raise
            host.sleep(2.0)


def _wait_for_lock(host: Host, manager: Installing, progress: Progress) -> None:
    end, holder = host.monotonic() + LOCK_WAIT, manager.lock_holder(host)
    while holder is not None:
        if host.monotonic() > end:
            raise StepFailed(
                "NQR-DEP-101",
                f"The package manager has been locked by {holder} for {LOCK_WAIT / 60:.0f} minutes.",
                "Wait until it has ended (or find out why it hangs), then run the same command again.",
            )
        progress(f"waiting for {holder} to release the package manager", None)
        host.sleep(2.0)
        holder = manager.lock_holder(host)


def _missing(host: Host, manager: Installing, names: tuple[str, ...]) -> tuple[str, ...]:
    have = manager.installed(host)
    return tuple(name for name in names if name not in have)


def _said(manager: Installing, error: CommandFailed) -> str:
    """Return the most useful line of a package manager's output."""
    lines = [line.strip() for line in (error.stderr + "\n" + error.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(manager.signs.telling)]
    said = (telling or lines or [f"exit code {error.code}"])[0]
    for label in manager.signs.labels:
        said = said.removeprefix(label)
    return said.rstrip(".")


def index_failed(manager: Installing, error: CommandFailed) -> StepFailed:
    return StepFailed(
        "NQR-DEP-102",
        f"The package index could not be fetched: {_said(manager, error)}.",
        "Check the network, the proxy and the package sources of this host, then run the same command again.",
    )


def _shows(error: CommandFailed, signs: tuple[str, ...]) -> bool:
    text = error.stderr + error.stdout
    return any(sign in text for sign in signs)


def transaction_failed(manager: Installing, error: CommandFailed) -> StepFailed:
    if _shows(error, manager.signs.full):
        return StepFailed(
            "NQR-DEP-104",
            f"There is not enough disk space for the packages: {_said(manager, error)}.",
            "Free some space on the file system that holds /usr and /var, then run the same command again.",
        )
    if _shows(error, manager.signs.unknown):
        return StepFailed(
            "NQR-DEP-103",
            f"A package is not in this host's package sources: {_said(manager, error)}.",
            "Enable the distribution's full package sources (on Ubuntu also “universe”), then run the same command again.",
        )
    if _shows(error, manager.signs.unreached):
        return StepFailed(
            "NQR-DEP-105",
            f"Packages could not be downloaded: {_said(manager, error)}.",
            "Check the network and the proxy of this host, then run the same command again.",
        )
    return StepFailed(
        "NQR-DEP-106",
        f"The package manager failed: {_said(manager, error)}.",
        "Put the package manager right by hand (its own message says how), then run the same command again.",
    )
