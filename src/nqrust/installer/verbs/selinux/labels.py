"""SELinux labels of nqr's own files, as the host's policy has them (restorecon(8)).

A file takes the type of its folder. A program below a new folder would therefore not be one in the policy's eyes, and a
confined service could not read its own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection


@dataclass(frozen=True)
class Labels:
    """Labels of everything below `paths`, folders of nqr. There is nothing to undo: the folders go with their labels."""

    kind: ClassVar[str] = "selinux-labels"

    paths: tuple[str, ...]

    @property
    def id(self) -> str:
        return "selinux-labels"

    def describe(self) -> str:
        return f"label {', '.join(self.paths)} for SELinux"

    def inspect(self, host: Host) -> Inspection:
        there = tuple(path for path in self.paths if host.exists(path))
        if not there or host.which("restorecon") is None:
            return Needed(("label the new files",))
        wrong = host.run(command("restorecon", "-R", "-n", "-v", *there, timeout=300)).stdout.splitlines()
        return Needed((f"~ labels of {len(wrong)} files",)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        host.run(command("restorecon", "-R", *(path for path in self.paths if host.exists(path)), timeout=300))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
