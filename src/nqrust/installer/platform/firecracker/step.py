"""Step: Firecracker and its jailer, from an archive whose sha256 is known before it is read."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.errors import ReleaseError, StepFailed
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
from nqrust.installer.platform.firecracker.source import ARCHIVE_VARIABLE, DIGEST_VARIABLE, Source
from nqrust.installer.release.download import Wanted, fetch
from nqrust.installer.release.folders import ensure_private
from nqrust.installer.verbs.file.undo import undo_file

PROGRAMS = ("firecracker", "jailer")
_MEMBER = re.compile(r"(?:\./)?release-v([0-9.]+)-x86_64/(firecracker|jailer)-v\1-x86_64")
_UNAVAILABLE, _SUPPLIED = "unavailable", "supplied"
_AGAIN = "Download the archive again and compare it with the digest that its publisher lists."


@dataclass(frozen=True)
class FirecrackerPrograms:
    """Install `firecracker` and `jailer` into the folder `bin_dir` (root:root 0755).

    `optional`: where they cannot be downloaded, that is noted and not tried again by the same settings; else the run is
    refused before anything is changed. An archive with another digest is never installed, and never a program whose own
    version is not the one of the archive.
    """

    bin_dir: str
    source: Source
    optional: bool = False
    cache: str = CACHE_DIR
    progress: Progress = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "firecracker"

    @property
    def id(self) -> str:
        return f"firecracker:{self._path('firecracker')}"

    def describe(self) -> str:
        return f"install {self.source.label} and its jailer in {self.bin_dir}"

    def inspect(self, host: Host) -> Inspection:
        known = _note(host, self._note)
        if self.optional and known[:2] == [_UNAVAILABLE, self.source.sha256]:
            return Satisfied(f"{self.source.label} could not be installed ({' '.join(known[2:])})")
        for name in PROGRAMS:
            found = host.stat(self._path(name))
            if found is not None and found.kind is not Kind.file:
                return Conflict(
                    "NQR-REL-042",
                    f"{self._path(name)} exists and is not a file.",
                    "Move it away, then run the same command again.",
                )
        installed = [host.sha256(self._path(name)) for name in PROGRAMS if host.stat(self._path(name))]
        whole = len(installed) == len(PROGRAMS) and known[1:3] == installed
        # An archive of the administrator's is named for one run. Its programs stay while the chosen version is the same.
        stays = not self.source.archive and known[3:] == [_SUPPLIED, self.source.chosen]
        if whole and (stays or known[:1] == [self.source.sha256]):
            return Satisfied()
        return self._missing(host) or Needed(tuple(f"{'~' if installed else '+'} {self._path(name)}" for name in PROGRAMS))

    def prepare(self, host: Host) -> Prepared:
        paths = (*map(self._path, PROGRAMS), self._note)
        origin = Origin.created if all(host.stat(path) is None for path in paths) else Origin.modified
        return Prepared(origin, tuple(undo_file(path, ours_sha256=None) for path in paths))

    def apply(self, host: Host) -> None:
        try:
            self._install(host)
        except (ReleaseError, StepFailed) as error:
            if not self.optional:
                raise
            why = " ".join(error.what.split())
            self.progress(f"Firecracker is left out: {why}", None)
            for name in PROGRAMS:
                host.remove(self._path(name))
            host.write_file(self._note, f"{_UNAVAILABLE} {self.source.sha256} {why}\n".encode(), mode=0o644)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _path(self, name: str) -> str:
        return posixpath.join(self.bin_dir, name)

    @property
    def _note(self) -> str:
        """Remembers beside them which archive the programs came from, or why there are none."""
        return f"{self._path('firecracker')}.source"

    def _missing(self, host: Host) -> Conflict | None:
        """Look for what speaks against the archive before anything is changed."""
        if self.source.archive:
            return self._wrong_archive(host)
        if self.optional or host.exists(f"{self.cache}/downloads/{self.source.sha256}"):
            return None
        why = _unreachable(self.source.url)
        if why is None:
            return None
        return Conflict(
            "NQR-REL-040",
            f"{self.source.label} cannot be downloaded from {self.source.url}: {why}.",
            f"Download the file on another machine and name it with --firecracker or {ARCHIVE_VARIABLE}. Or use --vmm qemu.",
        )

    def _wrong_archive(self, host: Host) -> Conflict | None:
        archive, found = self.source.archive, host.stat(self.source.archive)
        if found is None and self.source.bundled:
            return None
        if found is not None and found.kind is Kind.file and host.sha256(archive) == self.source.sha256:
            return None
        if found is None or found.kind is not Kind.file:
            return Conflict("NQR-REL-043", f"There is no file {archive}, which is to hold Firecracker.", _AGAIN)
        if self.source.version:
            return Conflict(
                "NQR-REL-043",
                f"{archive} is not the published archive of {self.source.label}.",
                f"{_AGAIN} For an archive of your own, set {DIGEST_VARIABLE}.",
            )
        return Conflict("NQR-REL-043", f"The sha256 of {archive} is not the one in {DIGEST_VARIABLE}.", _AGAIN)

    def _install(self, host: Host) -> None:
        if missing := self._missing(host):
            raise StepFailed(missing.code, missing.why, missing.cure)
        archive = self.source.archive
        if not archive:
            wanted = Wanted(self.source.url, self.source.sha256)
            archive = fetch(wanted, f"{self.cache}/downloads", self.progress, attempts=2 if self.optional else 4)
        work = f"{self.cache}/firecracker.unpacking"
        host.remove_tree(work)
        ensure_private(host, work)
        try:
            programs = self._unpacked(host, archive, work)
            for name, program in programs.items():
                host.copy_file(program, self._path(name), mode=0o755)
            digests = " ".join(host.sha256(self._path(name)) for name in PROGRAMS)
            origin = f" {_SUPPLIED} {self.source.chosen}" if self.source.archive else ""
            host.write_file(self._note, f"{self.source.sha256} {digests}{origin}\n".encode(), mode=0o644)
        finally:
            host.remove_tree(work)

    def _unpacked(self, host: Host, archive: str, work: str) -> dict[str, str]:
        """Name -> path of both programs. Nothing else leaves the archive, and nothing keeps its owner."""
        try:
            listed = host.run(command("tar", "-tzf", archive, timeout=120)).stdout.splitlines()
        except HostError as error:
            raise self._unusable(archive, f"it is not a compressed tar archive ({error})") from error
        found = {match[2]: (member, match[1]) for member in listed if (match := _MEMBER.fullmatch(member))}
        if set(found) != set(PROGRAMS) or len({version for _, version in found.values()}) != 1:
            raise self._unusable(archive, "it does not hold firecracker and jailer of one release")
        members = [member for member, _ in found.values()]
        host.run(command("tar", "-xzf", archive, "-C", work, "--no-same-owner", "--", *members, timeout=120))
        for name, (member, version) in found.items():
            if self.source.version not in ("", version):
                raise self._unusable(archive, f"it holds {name} {version}")
            said = host.run(command(f"{work}/{member}", "--version", timeout=20)).stdout.split()
            if f"v{version}" not in said[:2]:
                raise self._unusable(archive, f"its {name} calls itself {' '.join(said[:2]) or 'nothing'}, not v{version}")
        return {name: f"{work}/{member}" for name, (member, _) in found.items()}

    def _unusable(self, archive: str, why: str) -> StepFailed:
        return StepFailed(
            "NQR-REL-044",
            f"{archive} is not an archive of Firecracker: {why}.",
            "Download the archive for x86_64 from Firecracker's release page, then run the same command again.",
        )


def _note(host: Host, path: str) -> list[str]:
    return host.read_text(path).split() if host.exists(path) else []


def _unreachable(url: str) -> str | None:
    """Return the reason why `url` is out of reach now, or None if its server answers for it."""
    import httpx

    from nqrust.tls.patience import patient

    try:
        with patient(httpx.Client(follow_redirects=True, timeout=httpx.Timeout(10.0, connect=5.0))) as client:
            status = client.head(url).status_code
    except httpx.HTTPError as error:
        return str(error).rstrip(".") or type(error).__name__
    return None if status < 400 else f"the server answered {status}"
