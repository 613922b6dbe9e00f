"""Step: the Firecracker VMM, from its published archive, pinned by sha256 in our own tree."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
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
from nqrust.installer.release.download import Wanted, fetch
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.verbs.file.undo import undo_file


@dataclass(frozen=True)
class Pin:
    """One published archive. `sha256` is None where we could not confirm the digest ourselves: then nothing is
    downloaded, and only an archive that the administrator vouches for is installed."""

    version: str
    url: str
    member: str
    sha256: str | None


FIRECRACKER = Pin(
    version="1.13.1",
    url="https://github.com/firecracker-microvm/firecracker/releases/download/v1.13.1/firecracker-v1.13.1-x86_64.tgz",
    member="release-v1.13.1-x86_64/firecracker-v1.13.1-x86_64",
    sha256=None,
)

ARCHIVE_VARIABLE = "NQR_FIRECRACKER_ARCHIVE"
DIGEST_VARIABLE = "NQR_FIRECRACKER_SHA256"


@dataclass(frozen=True)
class Supplied:
    """An archive on this host, and the sha256 that the administrator states for it."""

    archive: str
    sha256: str


def supplied(environment: dict[str, str] | None = None) -> Supplied | None:
    """What NQR_FIRECRACKER_ARCHIVE (a file) and NQR_FIRECRACKER_SHA256 name; None when neither is set.
    Raises StepFailed NQR-REL-041 when only one is, or when the digest is none."""
    env = os.environ if environment is None else environment
    archive, digest = env.get(ARCHIVE_VARIABLE, ""), env.get(DIGEST_VARIABLE, "").lower()
    if not archive and not digest:
        return None
    if not archive.startswith("/") or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StepFailed(
            "NQR-REL-041",
            f"{ARCHIVE_VARIABLE} and {DIGEST_VARIABLE} do not name an archive and its sha256.",
            f"Set {ARCHIVE_VARIABLE} to the absolute path of the archive and {DIGEST_VARIABLE} to its 64 hex digits.",
        )
    return Supplied(archive, digest)


@dataclass(frozen=True)
class FirecrackerBinary:
    """Install firecracker at `path` (root:root 0755) from the pinned archive, or from the supplied one."""

    path: str
    pin: Pin = FIRECRACKER
    source: Supplied | None = None
    cache: str = CACHE_DIR
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "firecracker"

    @property
    def id(self) -> str:
        return f"firecracker:{self.path}"

    def describe(self) -> str:
        return f"install firecracker {self.pin.version} as {self.path}"

    @property
    def available(self) -> bool:
        """Whether there is anything to install from. Phases leave the step out when not, unless it was asked for."""
        return self.source is not None or self.pin.sha256 is not None

    @property
    def _note(self) -> str:
        """Remembers which archive the binary came from, beside it."""
        return f"{self.path}.source"

    def _digest(self) -> str | None:
        return self.source.sha256 if self.source else self.pin.sha256

    def inspect(self, host: Host) -> Inspection:
        found = host.stat(self.path)
        if found is None:
            return self._missing(host) or Needed((f"+ {self.path}",))
        if found.kind is not Kind.file:
            return Conflict(
                "NQR-REL-042", f"{self.path} exists and is not a file.", "Move it away, then run the same command again."
            )
        note = host.read_text(self._note).split() if host.exists(self._note) else []
        # Without a digest of today's there is nothing better: what was installed from a supplied archive stays.
        wanted = self._digest() or "".join(note[:1])
        if note == [wanted, host.sha256(self.path)] and found.mode == 0o755:
            return Satisfied()
        return self._missing(host) or Needed((f"~ {self.path}",))

    def prepare(self, host: Host) -> Prepared:
        origin = Origin.created if host.stat(self.path) is None else Origin.modified
        return Prepared(origin, (undo_file(self.path, ours_sha256=None), undo_file(self._note, ours_sha256=None)))

    def _missing(self, host: Host) -> Conflict | None:
        """What there is to install from, looked at before anything is changed."""
        if self._digest() is None:
            return Conflict(
                "NQR-REL-040",
                f"This release of the installer holds no digest for Firecracker {self.pin.version},"
                " and an archive without one is never installed.",
                f"Download {self.pin.url}, check it, then set {ARCHIVE_VARIABLE} to the file (absolute path) and"
                f" {DIGEST_VARIABLE} to its sha256 and run again; or use --vmm qemu.",
            )
        if self.source is None:
            return None
        archive, stat = self.source.archive, host.stat(self.source.archive)
        if stat is not None and stat.kind is Kind.file and host.sha256(archive) == self.source.sha256:
            return None
        what = (
            f"There is no file {archive}, which {ARCHIVE_VARIABLE} names."
            if stat is None or stat.kind is not Kind.file
            else f"The sha256 of {archive} is not the one in {DIGEST_VARIABLE}."
        )
        return Conflict(
            "NQR-REL-043", what, "Download the archive again and compare it with the digest that its publisher lists."
        )

    def apply(self, host: Host) -> None:
        if missing := self._missing(host):
            raise StepFailed(missing.code, missing.why, missing.cure)
        digest = self._digest()
        assert digest is not None
        if self.source:
            archive = self.source.archive
        else:
            archive = fetch(Wanted(self.pin.url, digest), f"{self.cache}/downloads", self.progress)
        work = f"{self.cache}/firecracker.unpacking"
        host.remove_tree(work)
        ensure_private(host, work)
        try:
            # Only the one member that is wanted leaves the archive, without its owner.
            host.run(command("tar", "-xzf", archive, "-C", work, "--no-same-owner", self.pin.member, timeout=120))
            program = f"{work}/{self.pin.member}"
            host.copy_file(program, self.path, mode=0o755)
            host.write_file(self._note, f"{digest} {host.sha256(program)}\n".encode(), mode=0o644)
        finally:
            host.remove_tree(work)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


def firecracker_path(install_dir: str) -> str:
    """Where the installation keeps its own firecracker, beside its other programs."""
    return posixpath.join(install_dir, "bin", "firecracker")
