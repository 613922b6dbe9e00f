"""Step: copy the artifacts of a release from the network (or from an unpacked bundle) into its folder."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.port import Host
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release import transport
from nqrust.installer.release.build import render
from nqrust.installer.release.bundled import DESCRIPTOR, damaged, read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.download import Wanted, fetch
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.published import name_in_list


@dataclass(frozen=True)
class FetchRelease:
    """Download every artifact of `release` that has an address into `directory`, then write the descriptor.

    `mirror`: another address of the files, without a slash at its end. `signed`: a key has checked the list of digests, so the files may come over plain HTTP. The step writes only to the cache,
    so there is nothing to undo.
    """

    release: Release
    directory: str
    cache: str = CACHE_DIR
    signed: bool = False
    mirror: str = ""
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "fetch-release"

    @property
    def id(self) -> str:
        return "fetch-release"

    def describe(self) -> str:
        return f"download release {self.release.version}" + (f", with mirror {self.mirror}" if self.mirror else "")

    def inspect(self, host: Host) -> Inspection:
        if read_release(host, self.directory) != self.release:
            return Needed(tuple(f"+ {artifact.name}" for artifact in self.release.artifacts))
        wrong = damaged(host, self.directory, self.release)
        return Needed(tuple(f"~ {name}" for name in wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        ensure_private(host, self.directory)
        with transport.client(signed=self.signed) as client:
            for artifact in self.release.artifacts:
                if artifact.url is None:
                    continue
                mirrors = (f"{self.mirror}/{name_in_list(artifact)}",) if self.mirror else ()
                wanted = Wanted(artifact.url, artifact.sha256, artifact.size, mirrors)
                found = fetch(wanted, f"{self.cache}/downloads", self.progress, client=client)
                path = f"{self.directory}/{artifact.name}"
                ensure_private(host, posixpath.dirname(path))
                host.copy_file(found, path, mode=0o644)
        host.write_file(f"{self.directory}/{DESCRIPTOR}", render(self.release))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
