"""Step: keep a copy of the release in the installation, so that `nqr` works without the original checkout."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release.bundled import DESCRIPTOR, GUEST_AGENT, HELPER, damaged, read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.verbs.file.former import set_beside, undo_former
from nqrust.installer.verbs.file.undo import undo_directory


@dataclass(frozen=True)
class KeepRelease:
    """Copy the release in `source` (descriptor and artifacts, about a megabyte) to `directory`.

    The copy excludes third-party wheels: they are pinned by hash, and a repair of an environment downloads them again. The step
    copies beside `directory` and renames, so the copy is complete or absent. A rollback puts back the release that it replaces.
    """

    version: str
    source: str
    directory: str

    kind: ClassVar[str] = "keep-release"

    @property
    def id(self) -> str:
        return f"keep-release:{self.directory}"

    def describe(self) -> str:
        return f"keep release {self.version} in {self.directory}"

    def inspect(self, host: Host) -> Inspection:
        kept = read_release(host, self.directory)
        if kept is None:
            return Needed((f"+ {self.directory}",))
        if kept.version != self.version:
            return Needed((f"- {self.directory} {kept.version}", f"+ {self.directory} {self.version}"))
        wrong = damaged(host, self.directory, kept)
        return Needed(tuple(f"~ {self.directory}/{name}" for name in wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        kept = read_release(host, self.directory)
        if kept is not None:
            other = kept.version != self.version
            return Prepared(Origin.modified, (undo_former(self.directory, kept.version, marker=DESCRIPTOR),) if other else ())
        return Prepared(Origin.created, (undo_directory(self.directory, tree=True),))

    def apply(self, host: Host) -> None:
        release = read_release(host, self.source)
        if release is None or release.version != self.version or damaged(host, self.source, release):
            raise StepFailed(
                "NQR-REL-016",
                f"The release {self.version} in {self.source} is not complete.",
                "Run the same command again; it prepares the release again.",
            )
        new = f"{self.directory}.new"
        host.remove_tree(new)
        try:
            self._copy(host, release, new)
            kept = read_release(host, self.directory)
            if kept is not None and kept.version != self.version:
                set_beside(host, self.directory, kept.version)
            host.remove_tree(self.directory)
            host.rename(new, self.directory)
        finally:
            host.remove_tree(new)

    def _copy(self, host: Host, release: Release, new: str) -> None:
        host.mkdir(new, mode=0o755)
        for name in (*(artifact.name for artifact in release.artifacts), DESCRIPTOR):
            target = f"{new}/{name}"
            ensure_private(host, posixpath.dirname(target), mode=0o755)
            try:
                host.copy_file(f"{self.source}/{name}", target, mode=0o755 if name in (GUEST_AGENT, HELPER) else 0o644)
            except PathMissing:
                continue  # this host did not need this artifact, so nothing fetched it

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
