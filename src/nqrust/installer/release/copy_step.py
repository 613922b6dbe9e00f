"""Step: copy the artifacts of a release from a folder of this host into its own."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release.build import render
from nqrust.installer.release.bundled import DESCRIPTOR, damaged, read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.published import name_in_list


@dataclass(frozen=True)
class CopyRelease:
    """Copy every artifact of `release` from `source` into `directory`, and check the copy's digest; then write the descriptor.

    The step writes only to the cache, so there is nothing to undo.
    """

    release: Release
    source: str
    directory: str
    cache: str = CACHE_DIR

    kind: ClassVar[str] = "copy-release"

    @property
    def id(self) -> str:
        return "copy-release"

    def describe(self) -> str:
        return f"copy release {self.release.version} from {self.source}"

    def inspect(self, host: Host) -> Inspection:
        if read_release(host, self.directory) != self.release:
            return Needed(tuple(f"+ {artifact.name}" for artifact in self.release.artifacts))
        wrong = damaged(host, self.directory, self.release)
        return Needed(tuple(f"~ {name}" for name in wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        ensure_private(host, self.cache)
        ensure_private(host, posixpath.dirname(self.directory))
        ensure_private(host, self.directory)
        host.remove(f"{self.directory}/{DESCRIPTOR}")
        for artifact in self.release.artifacts:
            source, path = f"{self.source}/{name_in_list(artifact)}", f"{self.directory}/{artifact.name}"
            ensure_private(host, posixpath.dirname(path))
            try:
                host.copy_file(source, path, mode=0o644)
            except PathMissing as error:
                raise _differs(source, "it is missing") from error
            if host.sha256(path) != artifact.sha256:
                host.remove(path)
                raise _differs(source, "its sha256 differs")
        host.write_file(f"{self.directory}/{DESCRIPTOR}", render(self.release))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


def _differs(path: str, why: str) -> StepFailed:
    return StepFailed(
        "NQR-REL-022",
        f"{path} is not what the release lists: {why}.",
        "Copy the release again from its publisher; if this repeats, it may have been tampered with.",
    )
