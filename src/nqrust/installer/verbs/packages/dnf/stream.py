"""A stream of a dnf module, enabled before its packages are installed (dnf(8), "Module Command"; modularity(7))."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed, PathMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.undo import undo_file
from nqrust.installer.verbs.packages.dnf.installing import Dnf
from nqrust.installer.verbs.packages.manager import trusting


@dataclass(frozen=True)
class ModuleStream:
    """Stream `stream` of the module `name`. A stream that an administrator chose stays, and so does everything on a host that
    has the package `unless`. The undo removes dnf's note of the choice, as `dnf module reset` does."""

    kind: ClassVar[str] = "module-stream"

    name: str
    stream: str
    unless: str

    @property
    def id(self) -> str:
        return f"module-stream:{self.name}"

    @property
    def _file(self) -> str:
        return f"/etc/dnf/modules.d/{self.name}.module"

    def describe(self) -> str:
        return f"enable the stream {self.stream} of the module {self.name}"

    def inspect(self, host: Host) -> Inspection:
        chosen = self._chosen(host)
        if chosen:
            return Satisfied(f"the stream {chosen} is enabled")
        if host.run(command("rpm", "-q", self.unless, ok=(0, 1))).code == 0:
            return Satisfied(f"{self.unless} is installed")
        return Needed((f"+ {self.name}:{self.stream}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_file(self._file, ours_sha256=None, retain=Retain.packages),))

    def apply(self, host: Host) -> None:
        try:
            enable = command("dnf", "-y", "-q", "module", "enable", f"{self.name}:{self.stream}", timeout=600)
            host.run(trusting(host, Dnf(), enable))
        except CommandFailed as error:
            said = ([line for line in error.stderr.splitlines() if line.strip()] or [str(error)])[-1].rstrip(".")
            raise StepFailed(
                "NQR-DEP-107",
                f"The stream {self.stream} of the module {self.name} could not be enabled: {said}.",
                f"Run `dnf module list {self.name}` and enable a stream that is new enough, then run the same command again.",
            ) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _chosen(self, host: Host) -> str:
        """Return the enabled stream, or "" if there is none."""
        parser = configparser.ConfigParser()
        try:
            parser.read_string(host.read_text(self._file))
        except (PathMissing, configparser.Error):
            return ""
        if parser.get(self.name, "state", fallback="") != "enabled":
            return ""
        return parser.get(self.name, "stream", fallback="")
