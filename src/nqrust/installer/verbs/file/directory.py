"""A directory with given mode and owner. Each parent is a separate step, so the receipt contains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, Kind
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.owned import access_diff, mode_text, not_a, require_parent, same_access
from nqrust.installer.verbs.file.undo import undo_directory, undo_mode


@dataclass(frozen=True)
class Directory:
    """A directory. `tree`: uninstall removes it with its content; otherwise only if empty. The step adopts an existing
    directory unchanged. `adopt_modes` corrects its mode and owners, and uninstall restores them."""

    kind: ClassVar[str] = "directory"

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"
    tree: bool = False
    retain: Retain = Retain.nothing
    adopt_modes: bool = False

    @property
    def id(self) -> str:
        return f"directory:{self.path}"

    def describe(self) -> str:
        return f"create directory {self.path}"

    def inspect(self, host: Host) -> Inspection:
        stat = host.stat(self.path)
        if stat is None:
            return Needed((f"+ {self.path}/ {mode_text(self.mode, self.owner, self.group)}",))
        if stat.kind is not Kind.directory:
            return not_a(Kind.directory, self.path, stat)
        if same_access(stat, self.mode, self.owner, self.group):
            return Satisfied()
        if not self.adopt_modes:
            return Satisfied(f"was there as {mode_text(stat.mode, stat.owner, stat.group)}")
        return Needed(access_diff(self.path, stat, self.mode, self.owner, self.group))

    def prepare(self, host: Host) -> Prepared:
        stat = host.stat(self.path)
        if stat is None:
            return Prepared(Origin.created, (undo_directory(self.path, tree=self.tree, retain=self.retain),))
        return Prepared(Origin.modified, (undo_mode(self.path, stat.mode, stat.owner, stat.group),))

    def apply(self, host: Host) -> None:
        if host.stat(self.path) is None:
            require_parent(host, self.path)
            host.mkdir(self.path, mode=self.mode, owner=self.owner, group=self.group)
        else:
            host.set_mode(self.path, mode=self.mode, owner=self.owner, group=self.group)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
