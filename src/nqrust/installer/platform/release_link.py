"""Step: switch the `current` symlink to a release atomically (rename(2))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.file.undo import undo_symlink


@dataclass(frozen=True)
class CurrentLink:
    """`path` points to `target`, relative so that it survives a move of the installation folder."""

    path: str
    target: str

    kind: ClassVar[str] = "current-link"

    @property
    def id(self) -> str:
        return f"current-link:{self.path}"

    def describe(self) -> str:
        return f"switch {self.path} to {self.target}"

    def inspect(self, host: Host) -> Inspection:
        found = host.stat(self.path)
        if found is None:
            return Needed((f"+ {self.path} -> {self.target}",))
        if found.kind is not Kind.symlink:
            return Conflict(
                "NQR-REL-015",
                f"{self.path} exists and is not a symlink.",
                "Move it away, then run the same command again.",
            )
        now = host.readlink(self.path)
        if now == self.target:
            return Satisfied()
        return Needed((f"- {self.path} -> {now}", f"+ {self.path} -> {self.target}"))

    def prepare(self, host: Host) -> Prepared:
        prior = None if host.stat(self.path) is None else host.readlink(self.path)
        origin = Origin.created if prior is None else Origin.modified
        return Prepared(origin, (undo_symlink(self.path, ours=self.target, prior=prior),))

    def apply(self, host: Host) -> None:
        host.symlink(self.target, self.path)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
