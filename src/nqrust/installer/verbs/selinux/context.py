"""A rule about the SELinux type of files. It survives a relabeling of the host (semanage-fcontext(8))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host, command
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.verbs.selinux.undo import rules, undo_context


@dataclass(frozen=True)
class FileContext:
    """Type `type` for paths that match `pattern`, a regular expression. An administrator's other type for it is a conflict."""

    kind: ClassVar[str] = "selinux-context"

    pattern: str
    type: str

    @property
    def id(self) -> str:
        return f"selinux-context:{self.pattern}"

    def describe(self) -> str:
        return f"give {self.pattern} the SELinux type {self.type}"

    def inspect(self, host: Host) -> Inspection:
        if host.which("semanage") is None:
            return Needed((f"+ {self.pattern} {self.type}",))  # an earlier step installs it
        now = rules(host).get(self.pattern)
        if now is None:
            return Needed((f"+ {self.pattern} {self.type}",))
        if now != self.type:
            return Conflict(
                "NQR-SVC-120",
                f"This host gives {self.pattern} the SELinux type {now}; {self.type} is needed.",
                f"Run `semanage fcontext --delete '{self.pattern}'`, then run the same command again.",
            )
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_context(self.pattern),))

    def apply(self, host: Host) -> None:
        host.run(command("semanage", "fcontext", "--add", "--type", self.type, self.pattern, timeout=120))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
