"""A system group (groupadd(8))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.account.undo import undo_group


@dataclass(frozen=True)
class Group:
    """A group. The step adopts an existing one with any GID."""

    kind: ClassVar[str] = "group"

    name: str

    @property
    def id(self) -> str:
        return f"group:{self.name}"

    def describe(self) -> str:
        return f"create system group {self.name}"

    def inspect(self, host: Host) -> Inspection:
        return Needed((f"+ group {self.name}",)) if host.group(self.name) is None else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_group(self.name),))

    def apply(self, host: Host) -> None:
        host.run(command("groupadd", "--system", self.name))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
