"""A symlink with a given target, created or replaced atomically (rename(2))."""

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
from nqrust.installer.verbs.file.owned import not_a, require_parent
from nqrust.installer.verbs.file.undo import undo_symlink


@dataclass(frozen=True)
class Symlink:
    """A symlink. `replace`: replace a symlink with another target; without it, that is a conflict."""

    kind: ClassVar[str] = "symlink"

    path: str
    target: str
    replace: bool = True

    @property
    def id(self) -> str:
        return f"symlink:{self.path}"

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is None:
            return Needed((f"+ {self.path} -> {self.target}",))
        if stat.kind is not Kind.symlink:
            return not_a(Kind.symlink, self.path, stat)
        now = host.readlink(self.path)
        if now == self.target:
            return Satisfied()
        if not self.replace:
            return Conflict(
                "NQR-CFG-103",
                f"{self.path} already points to {now}.",
                f"Remove {self.path} if nothing needs it, then run the same command again.",
            )
        return Needed((f"{self.path}: {now} -> {self.target}",))

    def prepare(self, host: Host) -> Prepared:
        prior = host.readlink(self.path) if host.stat(self.path) is not None else None
        origin = Origin.created if prior is None else Origin.modified
        return Prepared(origin, (undo_symlink(self.path, ours=self.target, prior=prior),))

    def apply(self, host: Host) -> None:
        require_parent(host, self.path)
        host.symlink(self.target, self.path)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
