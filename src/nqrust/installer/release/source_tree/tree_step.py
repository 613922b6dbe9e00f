"""Step: build a release from a source tree in upstream's form, in the cache."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR, STATE_DIR
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError, StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.release import node_wheel
from nqrust.installer.release.build import artifact, render
from nqrust.installer.release.bundled import DESCRIPTOR, damaged, read_release
from nqrust.installer.release.descriptor import Release
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.source_tree import build, cargo_workspace, describing, queries, rust, web, workplace

SCRATCH = f"{STATE_DIR}/building"
"""Other users can pass through the folder above it, and only root can write there."""


@dataclass(frozen=True)
class BuildTree:
    """Build `release` from `tree` into `directory` (below the cache), as a user without privileges.

    The step is satisfied once `directory` holds that release, complete. `lock`: names the Node.js that builds the web UI where the
    host has none. The step writes only to the cache and the scratch folder, so there is nothing to undo.
    """

    release: Release
    tree: str
    directory: str
    runner: str
    lock: str = ""
    cache: str = CACHE_DIR
    scratch: str = SCRATCH
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "build-tree"

    @property
    def id(self) -> str:
        return "build-tree"

    def describe(self) -> str:
        return f"build release {self.release.version} from {self.tree}"

    @property
    def _with_ui(self) -> bool:
        return self.release.component("ui") is not None

    def inspect(self, host: Host) -> Inspection:
        found = read_release(host, self.directory)
        if found is None or found.version != self.release.version or not set(self.release.components) <= set(found.components):
            return Needed((f"+ {self.directory}",))
        wrong = damaged(host, self.directory, found)
        return Needed(tuple(f"~ {name}" for name in wrong)) if wrong else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        ensure_private(host, self.cache)
        ensure_private(host, posixpath.dirname(self.directory))
        if describing.describe(host, self.tree, with_ui=self._with_ui).version != self.release.version:
            raise StepFailed(
                "NQR-REL-006",
                f"The source tree {self.tree} changed while it was being installed.",
                "Leave it alone while the installer runs, then run the same command again.",
            )
        node = ""
        if self._with_ui and not web.has_node(host):
            node = node_wheel.fetch(host, lock=self.lock, cache=self.cache, runner=self.runner, progress=self.progress)
        workplace.clear(host, self.scratch)
        built = f"{self.directory}.built"
        host.remove_tree(built)
        try:
            build.build(
                host, tree=self.tree, to=built, scratch=self.scratch, with_ui=self._with_ui, progress=self.progress, node=node
            )
        except ReleaseError as error:
            if not host.exists(f"{built}.log"):
                raise
            raise StepFailed(error.code, error.what, f"Read {built}.log. {error.cure}") from error
        names = sorted(c.artifact for c in self.release.components if c.artifact)
        finished = self.release.model_copy(update={"artifacts": tuple(artifact(host, built, name) for name in names)})
        host.write_file(f"{built}/{DESCRIPTOR}", render(finished))
        host.remove_tree(self.directory)
        host.rename(built, self.directory)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


def tools(host: Host, tree: str, versions: Mapping[str, tuple[int, ...]], *, database: bool) -> tuple[str, ...]:
    """Return the package roles (distro/) that a build of the tree needs here. `versions`: of the distribution's packages, by role.
    `database`: whether the install brings a PostgreSQL server. Where neither the host nor its distribution has the Rust that the tree
    asks for, the build brings it. Raises ReleaseError NQR-REL-080, NQR-REL-090."""
    workspace = cargo_workspace.read(host, tree)
    wanted = workspace.rust
    queries.need_server(host, queries.asking(host, tree, workspace), comes=database)
    packaged = wanted.released and not wanted.musl and versions.get("recent-rust", ()) >= wanted.oldest[:2]
    if packaged and not rust.installed(host):
        return ("recent-rust",)
    return () if host.which("cc") else ("build",)
