"""Node.js for a release whose web UI needs it: the distribution's, the host's own, the administrator's, or the package index's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import Progress, silent
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.release import node_wheel
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.release.unpack import unpack
from nqrust.installer.verbs.file.undo import undo_file

OLDEST = 20
"""The major version that upstream's web UI is built for."""
ROLE = "nodejs"
PACKAGED = "/usr/bin/node"
ARCHIVE_VARIABLE = "NQR_NODE_ARCHIVE"
_PLACES = (PACKAGED, "/usr/local/bin/node")
_PROGRAM = "bin/node"
_INDEXED = "package-index "


@dataclass(frozen=True)
class Node:
    """`program`: its absolute path. `packaged`: the distribution's package brings it. `archive`: the file that it comes from,
    or was once. `indexed`: the Python package index brings it."""

    program: str
    packaged: bool = False
    archive: str = ""
    indexed: bool = False


def find(host: Host, bin_dir: str, versions: Mapping[str, tuple[int, ...]], environment: Mapping[str, str] | None = None) -> Node:
    """Return the Node.js for this host: the archive in NQR_NODE_ARCHIVE, or the program of an earlier run. Otherwise the
    distribution's package if it is new enough (`versions` by role), or a program that is here already. The Python package
    index comes last. Raises StepFailed NQR-REL-072."""
    env = os.environ if environment is None else environment
    archive, own = env.get(ARCHIVE_VARIABLE, ""), f"{bin_dir}/node"
    if archive and not archive.startswith("/"):
        raise StepFailed("NQR-REL-072", f"{archive} is not an absolute path.", f"Set {ARCHIVE_VARIABLE} to an absolute path.")
    if archive or host.exists(own):
        return Node(own, archive=archive, indexed=not archive and _noted(host, own).startswith(_INDEXED))
    packaged = versions.get(ROLE, ())
    if packaged[:1] >= (OLDEST,):
        return Node(PACKAGED, packaged=True)
    for program in _PLACES:
        if major(host, program) >= OLDEST:
            return Node(program)
    return Node(own, indexed=True)


def major(host: Host, program: str) -> int:
    """Return the major version of a Node.js on this host, 0 if there is none."""
    if not host.exists(program):
        return 0
    try:
        said = host.run(command(program, "--version", timeout=20)).stdout
    except HostError:
        return 0
    match = re.match(r"v(\d{1,4})\.", said)
    return int(match[1]) if match else 0


@dataclass(frozen=True)
class NodeProgram:
    """Install the program of a Node.js archive, or of the package index, as `node.program` (root:root 0755). Without an archive,
    the one of an earlier run stays. `lock`: the file that names the package. `runner`: a Python with pip."""

    node: Node
    lock: str = ""
    runner: str = ""
    cache: str = CACHE_DIR
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "node-program"

    @property
    def id(self) -> str:
        return f"node-program:{self.node.program}"

    def describe(self) -> str:
        return f"install Node.js as {self.node.program}"

    def inspect(self, host: Host) -> Inspection:
        found = host.stat(self.node.program)
        if found is not None and found.kind is not Kind.file:
            return Conflict(
                "NQR-REL-014", f"{self.node.program} exists and is not a file.", "Move it away, then run the same command again."
            )
        archive = self.node.archive
        if self.node.indexed:
            return self._inspect_indexed(host)
        if found is not None and (
            not archive or _noted(host, self.node.program) == f"{_digest(host, archive)} {host.sha256(self.node.program)}"
        ):
            return Satisfied()
        if not _digest(host, archive):
            return Conflict(
                "NQR-REL-072",
                f"There is no file {archive}, which is to hold Node.js." if archive else f"{self.node.program} is missing.",
                f"Download the archive for linux-x64 from nodejs.org again and name it with {ARCHIVE_VARIABLE}.",
            )
        return Needed((f"{'~' if found else '+'} {self.node.program}",))

    def _inspect_indexed(self, host: Host) -> Inspection:
        there = host.exists(self.node.program)
        # Before the release is prepared, its lock is not here: a program that is here stays until then.
        wanted = node_wheel.version(host, self.lock) if host.exists(self.lock) else ""
        known = _noted(host, self.node.program).removeprefix(_INDEXED).split()
        if there and len(known) == 2 and wanted in ("", known[0]) and host.sha256(self.node.program) == known[1]:
            return Satisfied()
        return Needed((f"{'~' if there else '+'} {self.node.program}",))

    def prepare(self, host: Host) -> Prepared:
        origin = Origin.created if host.stat(self.node.program) is None else Origin.modified
        return Prepared(origin, tuple(undo_file(path, ours_sha256=None) for path in (self.node.program, self._note)))

    def apply(self, host: Host) -> None:
        if self.node.indexed:
            folder = node_wheel.fetch(host, lock=self.lock, cache=self.cache, runner=self.runner, progress=self.progress)
            host.copy_file(f"{folder}/{_PROGRAM}", self.node.program, mode=0o755)
            noted = f"{_INDEXED}{node_wheel.version(host, self.lock)} {host.sha256(self.node.program)}\n"
            host.write_file(self._note, noted.encode(), mode=0o644)
            return
        work = f"{self.cache}/node.unpacking"
        ensure_private(host, self.cache)
        host.remove_tree(work)
        self.progress("unpacking Node.js", None)
        try:
            unpack(self.node.archive, work)
            programs = [path for path in host.glob(f"{work}/*/{_PROGRAM}") if _is_file(host, path)]
            if len(programs) != 1 or major(host, programs[0]) < OLDEST:
                raise StepFailed(
                    "NQR-REL-072",
                    f"{self.node.archive} holds no Node.js {OLDEST} or newer that runs here.",
                    f"Download the archive for linux-x64 from nodejs.org again and name it with {ARCHIVE_VARIABLE}.",
                )
            host.copy_file(programs[0], self.node.program, mode=0o755)
            noted = f"{host.sha256(self.node.archive)} {host.sha256(self.node.program)}\n"
            host.write_file(self._note, noted.encode(), mode=0o644)
        finally:
            host.remove_tree(work)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    @property
    def _note(self) -> str:
        """Remembers beside the program which archive it came from."""
        return f"{self.node.program}.source"


def _noted(host: Host, program: str) -> str:
    return host.read_text(f"{program}.source").strip() if host.exists(f"{program}.source") else ""


def _is_file(host: Host, path: str) -> bool:
    found = host.stat(path)
    return found is not None and found.kind is Kind.file


def _digest(host: Host, path: str) -> str:
    return host.sha256(path) if path and _is_file(host, path) else ""
