"""Step: the archive of a release's web UI, unpacked into its own folder."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

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
from nqrust.installer.platform.artifact import listed
from nqrust.installer.release.unpack import refused, unpack
from nqrust.installer.verbs.file.undo import undo_directory

MARKER = ".nqrust-unpacked"


@dataclass(frozen=True)
class Unpacked:
    """Unpack artifact `name` of the release in `release_dir` to the folder `path`, root's and readable by all.

    `entry`: the program that must be in it. An archive with one folder that has it all counts as that folder. The step unpacks
    beside `path` and renames. The marker, with the archive's digest, makes it complete.
    """

    kind: ClassVar[str] = "unpacked"

    release_dir: str
    name: str
    path: str
    entry: str

    @property
    def id(self) -> str:
        return f"unpacked:{self.path}"

    def describe(self) -> str:
        return f"unpack {self.name} into {self.path}"

    def inspect(self, host: Host) -> Inspection:
        found = host.stat(self.path)
        if found is None:
            return Needed((f"+ {self.path}/",))
        if found.kind is not Kind.directory:
            return Conflict(
                "NQR-REL-014", f"{self.path} exists and is not a folder.", "Move it away, then run the same command again."
            )
        expected = listed(host, self.release_dir, self.name)
        if expected is None or _marked(host, self.path) != expected["sha256"] or not host.exists(f"{self.path}/{self.entry}"):
            return Needed((f"~ {self.path}/",))
        return Satisfied()

    def prepare(self, host: Host) -> Prepared:
        if host.exists(self.path):  # its creator has the record that removes it
            return Prepared(Origin.modified, ())
        new = undo_directory(f"{self.path}.new", tree=True)
        return Prepared(Origin.created, (undo_directory(self.path, tree=True), new))

    def apply(self, host: Host) -> None:
        expected = listed(host, self.release_dir, self.name)
        source, new = f"{self.release_dir}/{self.name}", f"{self.path}.new"
        if expected is None or host.sha256(source) != expected["sha256"]:
            raise StepFailed(
                "NQR-REL-013",
                f"{source} is not the file that the release lists (its sha256 differs).",
                f"Remove {self.release_dir} and run the same command again.",
            )
        host.remove_tree(new)
        unpack(source, new)
        inside = new if host.exists(f"{new}/{self.entry}") else self._only_folder(host, new)
        if not inside:
            host.remove_tree(new)
            raise refused(source, f"it has no {self.entry}")
        host.write_file(f"{inside}/{MARKER}", f"{expected['sha256']}\n".encode(), mode=0o644)
        host.remove_tree(self.path)
        host.rename(inside, self.path)
        host.remove_tree(new)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _only_folder(self, host: Host, new: str) -> str:
        names = host.listdir(new)
        inside = posixpath.join(new, names[0]) if len(names) == 1 else ""
        return inside if inside and host.exists(f"{inside}/{self.entry}") else ""


def _marked(host: Host, path: str) -> str:
    try:
        return host.read_text(f"{path}/{MARKER}").strip()
    except PathMissing:
        return ""
