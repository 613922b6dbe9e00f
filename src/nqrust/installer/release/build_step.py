"""Step: build the bundled release from a checkout, in the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release.build import build
from nqrust.installer.release.bundled import damaged, describe_checkout, read_release
from nqrust.installer.release.folders import ensure_private


@dataclass(frozen=True)
class BuildRelease:
    """Build `version` from `checkout` into `directory` (below the cache), with `runner`'s hatchling.

    The step is satisfied once `directory` holds a complete release of that version. The installation's own copy always satisfies
    it. The step writes only to the cache, so there is nothing to undo.
    """

    version: str
    directory: str
    checkout: str
    runner: str
    cache: str = CACHE_DIR
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "build-release"

    @property
    def id(self) -> str:
        return "build-release"

    def describe(self) -> str:
        return f"build release {self.version}" + (f" from {self.checkout}" if self.checkout else "")

    def inspect(self, host: Host) -> Inspection:
        release = read_release(host, self.directory)
        if release is None or release.version != self.version:
            return Needed((f"+ {self.directory}",))
        wrong = damaged(host, self.directory, release)
        return Needed(tuple(f"~ {name}" for name in wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        if not self.checkout:
            raise StepFailed(
                "NQR-REL-005",
                f"The kept copy of release {self.version} is damaged and there is no checkout to build from.",
                "Run ./scripts/install/install.sh from the source tree of that release.",
            )
        ensure_private(host, self.cache)
        ensure_private(host, f"{self.cache}/releases")
        found = describe_checkout(host, self.checkout).version
        if found != self.version:
            raise StepFailed(
                "NQR-REL-006",
                f"The source tree {self.checkout} changed while it was being installed.",
                "Leave it alone while the installer runs, then run the same command again.",
            )
        build(host, checkout=self.checkout, directory=self.directory, runner=self.runner, progress=self.progress)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
