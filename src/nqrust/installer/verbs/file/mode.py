"""Mode and owners of an existing path (a device node, a file of another program)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.file.owned import access_diff, mode_text, same_access
from nqrust.installer.verbs.file.undo import undo_mode


@dataclass(frozen=True)
class Mode:
    """Mode and owners. `optional`: the path may be missing (a device that this machine does not have)."""

    kind: ClassVar[str] = "mode"

    path: str
    mode: int
    owner: str = "root"
    group: str = "root"
    optional: bool = False

    @property
    def id(self) -> str:
        return f"mode:{self.path}"

    def describe(self) -> str:
        return f"set {self.path} to {mode_text(self.mode, self.owner, self.group)}"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is None:
            if self.optional:
                return Satisfied(f"{self.path} is not there")
            return Needed((f"{self.path}: -> {mode_text(self.mode, self.owner, self.group)}",))
        if same_access(stat, self.mode, self.owner, self.group):
            return Satisfied()
        return Needed(access_diff(self.path, stat, self.mode, self.owner, self.group))

    def prepare(self, host: Host) -> Prepared:
        stat = host.stat(self.path)
        if stat is None:
            raise self._missing()
        return Prepared(Origin.modified, (undo_mode(self.path, stat.mode, stat.owner, stat.group),))

    def apply(self, host: Host) -> None:
        if host.stat(self.path) is None:
            raise self._missing()
        host.set_mode(self.path, mode=self.mode, owner=self.owner, group=self.group)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _missing(self) -> StepFailed:
        return StepFailed(
            "NQR-CFG-104",
            f"{self.path} is not there, so its mode cannot be set.",
            f"Find out what should have made {self.path}, then run the same command again.",
        )
