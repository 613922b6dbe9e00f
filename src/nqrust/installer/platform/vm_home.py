"""Step: the agent's state folder. Undoing it also ends all VMs, so that none outlives an uninstall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.port import Host
from nqrust.installer.engine.step import Inspection, Origin, Prepared
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.undo import undo_directory
from nqrust.installer.verbs.service.undo import undo_vms


@dataclass(frozen=True)
class VmHome:
    """`path`: folder that only agents write, and that users of VMs pass through (0711 root); `runtime`: where they keep
    sockets. Reverting it ends every VM whose scope begins with `prefix` (disks stay, they are data), after the services that
    would start them again are gone."""

    kind: ClassVar[str] = "vm-home"

    path: str
    prefix: str
    runtime: str = "/run/nqrust-agent"

    @property
    def id(self) -> str:
        return f"vm-home:{self.path}"

    @property
    def _directory(self) -> Directory:
        return Directory(self.path, mode=0o711, tree=True, adopt_modes=True)

    def describe(self) -> str:
        return f"create {self.path} for the agent"

    def inspect(self, host: Host) -> Inspection:
        return self._directory.inspect(host)

    def prepare(self, host: Host) -> Prepared:
        if host.stat(self.path) is not None:
            return self._directory.prepare(host)
        folders = [undo_directory(path, tree=True) for path in (self.path, self.runtime)]
        return Prepared(Origin.created, (*folders, undo_vms(self.prefix)))

    def apply(self, host: Host) -> None:
        self._directory.apply(host)

    def verify(self, host: Host) -> None:
        self._directory.verify(host)
