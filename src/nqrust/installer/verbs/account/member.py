"""Membership of a user in a supplementary group (usermod(8), gpasswd(1))."""

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
from nqrust.installer.verbs.account.undo import undo_member


@dataclass(frozen=True)
class Member:
    """A membership. Earlier steps create the user and group, unless they exist."""

    kind: ClassVar[str] = "member"

    group: str
    user: str

    @property
    def id(self) -> str:
        return f"member:{self.group}:{self.user}"

    def describe(self) -> str:
        return f"add {self.user} to group {self.group}"

    def inspect(self, host: Host) -> Inspection:
        group, user = host.group(self.group), host.user(self.user)
        if group is not None and user is not None and (self.user in group.members or user.gid == group.gid):
            return Satisfied()
        return Needed((f"+ {self.user} in group {self.group}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_member(self.group, self.user),))

    def apply(self, host: Host) -> None:
        host.run(command("usermod", "--append", "--groups", self.group, self.user))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
