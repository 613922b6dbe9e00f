"""A system user without login (useradd(8))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.account.undo import undo_user

NOLOGIN = "/usr/sbin/nologin"


@dataclass(frozen=True)
class User:
    """A user. An earlier step creates its primary group. The step names its home but does not create it. It adopts an
    existing user unchanged, except one with UID 0."""

    kind: ClassVar[str] = "user"

    name: str
    group: str
    home: str
    shell: str = NOLOGIN
    comment: str = ""

    @property
    def id(self) -> str:
        return f"user:{self.name}"

    def describe(self) -> str:
        return f"create system user {self.name}"

    def inspect(self, host: Host) -> Inspection:
        found = host.user(self.name)
        if found is None:
            return Needed((f"+ user {self.name} (group {self.group}, home {self.home}, no login)",))
        if found.uid == 0 and self.name != "root":
            return Conflict(
                "NQR-CFG-110",
                f"The user {self.name} exists with uid 0, which is root.",
                f"Rename or remove that user (userdel {self.name}), then run the same command again.",
            )
        wanted = host.group(self.group)
        if wanted is not None and found.gid != wanted.gid and self.name not in wanted.members:
            return Conflict(
                "NQR-CFG-111",
                f"The user {self.name} exists but is not in the group {self.group}.",
                f"Add it (usermod -aG {self.group} {self.name}) if it is meant for this, then run the same command again.",
            )
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_user(self.name),))

    def apply(self, host: Host) -> None:
        shell = self.shell if host.exists(self.shell) else "/sbin/nologin"
        host.run(
            command(
                "useradd",
                "--system",
                "--gid",
                self.group,
                "--no-create-home",
                "--home-dir",
                self.home,
                "--shell",
                shell,
                *(("--comment", self.comment) if self.comment else ()),
                self.name,
            )
        )

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
