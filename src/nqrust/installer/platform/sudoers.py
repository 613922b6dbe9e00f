"""Step: a sudoers file, checked before it is put in place. A broken file would prevent everyone from becoming root
(sudoers(5))."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, Kind, command
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
from nqrust.installer.verbs.file.file import content_diff
from nqrust.installer.verbs.file.owned import access_diff, not_a, require_parent, same_access
from nqrust.installer.verbs.file.undo import undo_file

MODE = 0o440
_REPAIR = "Run visudo -c to find the faulty file and line. Fix it, then run the same command again."
CANDIDATE_SUFFIX = ".nqr-candidate"
"""Its dot makes sudo ignore the file in an included folder (sudoers(5), @includedir)."""


@dataclass(frozen=True)
class Sudoers:
    """`path`: below /etc/sudoers.d, without a dot or `~` in its name. Mode 0440, root:root."""

    kind: ClassVar[str] = "sudoers"

    path: str
    content: str

    def __post_init__(self) -> None:
        name = posixpath.basename(self.path)
        if "." in name or name.endswith("~"):
            raise ValueError(f"sudo would not read {self.path}")

    @property
    def id(self) -> str:
        return f"sudoers:{self.path}"

    def describe(self) -> str:
        return f"write {self.path} (checked with visudo)"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is not None and stat.kind is not Kind.file:
            return not_a(Kind.file, self.path, stat)
        left = (f"- {self._candidate} (left by an interrupted run)",) if host.exists(self._candidate) else ()
        data = host.read_bytes(self.path) if stat is not None else b""
        if stat is not None and data == self.content.encode():
            if same_access(stat, MODE, "root", "root"):
                return Needed(left) if left else Satisfied()
            return Needed(access_diff(self.path, stat, MODE, "root", "root") + left)
        if host.which("sudo") is not None and host.which("visudo") is None:
            return Conflict(
                "NQR-SUD-101",
                "sudo is installed without visudo, so nqr cannot check the rules before it installs them.",
                "Install the distribution's complete sudo package, then run the same command again.",
            )
        if host.which("visudo") is not None and (trouble := _check(host)) is not None:
            return Conflict("NQR-SUD-103", f"The sudo rules of this host are already broken: {trouble}.", _REPAIR)
        return Needed(content_diff(self.path, data, self.content.encode()) + left)

    def prepare(self, host: Host) -> Prepared:
        digest = hashlib.sha256(self.content.encode()).hexdigest()
        origin = Origin.created if host.stat(self.path) is None else Origin.modified
        candidate = undo_file(self._candidate, ours_sha256=None)
        return Prepared(origin, (undo_file(self.path, ours_sha256=digest), candidate))

    def apply(self, host: Host) -> None:
        require_parent(host, self.path)
        prior = host.stat(self.path)
        before = host.read_bytes(self.path) if prior is not None else None
        if host.which("visudo") is None:
            raise StepFailed(
                "NQR-SUD-102",
                "visudo is not installed, so the sudo rules cannot be checked.",
                "Install the package sudo, then run the same command again.",
            )
        if (trouble := _check(host)) is not None:
            raise StepFailed("NQR-SUD-103", f"The sudo rules of this host are already broken: {trouble}.", _REPAIR)
        host.write_file(self._candidate, self.content.encode(), mode=MODE)
        try:
            trouble = _check(host, self._candidate)
            if trouble is not None:
                raise StepFailed(
                    "NQR-SUD-104",
                    f"visudo refuses the rules meant for {self.path}: {trouble}.",
                    "Nothing was put in place; the privileges that the release asks for are at fault, so use another release.",
                )
            host.rename(self._candidate, self.path)
        finally:
            host.remove(self._candidate)
        trouble = _check(host)
        if trouble is not None:
            if before is not None and prior is not None:
                host.write_file(self.path, before, mode=prior.mode, owner=prior.owner, group=prior.group)
            else:
                host.remove(self.path)
            raise StepFailed(
                "NQR-SUD-105",
                f"{self.path} would break the sudo rules of this host: {trouble}.",
                "nqr has restored the earlier file. Find the file that clashes (visudo -c), then run the same command again.",
            )

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    @property
    def _candidate(self) -> str:
        return self.path + CANDIDATE_SUFFIX


def _check(host: Host, path: str | None = None) -> str | None:
    """Return the first fault that visudo(8) finds in one file, or in all sudo rules; None if there is none."""
    try:
        host.run(command("visudo", "-c", *(("-f", path) if path else ())))
    except CommandFailed as error:
        lines = [line.strip() for line in (error.stderr + "\n" + error.stdout).splitlines() if line.strip()]
        return (lines or [f"exit code {error.code}"])[0].rstrip(".")
    except HostError as error:
        return str(error)
    return None
