"""Step: copy a file of a release to its place and check its digest against the release's descriptor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, Kind
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.undo import undo_file

DESCRIPTOR = "release.json"


@dataclass(frozen=True)
class Artifact:
    """Copy artifact `name` of the release in `release_dir` to `path`.

    The step reads the digest from that descriptor when it runs, because a release built on this host has none before. It
    renames the new file into place, so a running program keeps the old file (no ETXTBSY).
    """

    release_dir: str
    name: str
    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"
    retain: Retain = Retain.nothing

    kind: ClassVar[str] = "artifact"

    @property
    def id(self) -> str:
        return f"artifact:{self.path}"

    def describe(self) -> str:
        return f"install {self.name} as {self.path}"

    def inspect(self, host: Host) -> Inspection:
        found = host.stat(self.path)
        if found is None:
            return Needed((f"+ {self.path}",))
        if found.kind is not Kind.file:
            return Conflict(
                "NQR-REL-014", f"{self.path} exists and is not a file.", "Move it away, then run the same command again."
            )
        expected = self._expected(host)
        if expected is None or found.size != expected["size"] or host.sha256(self.path) != expected["sha256"]:
            return Needed((f"~ {self.path}",))
        if (found.mode, found.owner, found.group) != (self.mode, self.owner, self.group):
            return Needed((f"~ {self.path}: mode {found.mode:04o} {found.owner}:{found.group}",))
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        expected = self._expected(host)
        origin = Origin.created if host.stat(self.path) is None else Origin.modified
        ours = None if expected is None else str(expected["sha256"])
        return Prepared(origin, (undo_file(self.path, ours_sha256=ours, retain=self.retain),))

    def apply(self, host: Host) -> None:
        expected = self._expected(host)
        if expected is None:
            raise StepFailed(
                "NQR-REL-012",
                f"The release in {self.release_dir} does not list {self.name}.",
                "Run the same command again; it prepares the release again.",
            )
        source = f"{self.release_dir}/{self.name}"
        found = host.stat(source)
        if found is None or host.sha256(source, seen=found) != expected["sha256"]:
            raise StepFailed(
                "NQR-REL-013",
                f"{source} is not the file that the release lists (its sha256 differs).",
                f"Remove {self.release_dir} and run the same command again.",
            )
        host.copy_file(source, self.path, mode=self.mode, owner=self.owner, group=self.group, seen=found)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _expected(self, host: Host) -> dict[str, Any] | None:
        return listed(host, self.release_dir, self.name)


def listed(host: Host, release_dir: str, name: str) -> dict[str, Any] | None:
    """Return the entry of artifact `name` in the descriptor of `release_dir`, or None."""
    try:
        entries = json.loads(host.read_text(f"{release_dir}/{DESCRIPTOR}"))["artifacts"]
        return next((entry for entry in entries if entry["name"] == name), None)
    except (PathMissing, ValueError, KeyError, TypeError):
        return None
