"""Downloads Debian packages without installing them, checks them against apt's signed index, and caches them.

The index (deb-src-control(5), apt-cache(8)) decides. Without an index (an air-gapped host) the cached packages of an earlier
run are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nqrust.host.environment import certificates
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, ProgramMissing
from nqrust.host.port import Host, command
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress, silent

_RECORD = "packages.json"
ALONE = "alone"
"""A file that makes its folder the only source: apt is not asked. Bundles have one."""


@dataclass(frozen=True)
class Package:
    """One package from apt's index; `size` in bytes, `depends` the raw field."""

    name: str
    version: str
    size: int
    sha256: str
    depends: str = ""

    @property
    def file(self) -> str:
        """Name in the cache. apt writes the colon of an epoch as %3a."""
        return f"{self.name}_{self.version.replace(':', '%3a')}.deb"


def parse_package(stanza: str) -> Package | None:
    """Parse one stanza of `apt-cache show`. Returns None if it lacks a required field."""
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        found = re.match(r"([A-Za-z0-9-]+):\s*(.*)", line)
        if found:
            fields.setdefault(found.group(1).lower(), found.group(2).strip())
    try:
        package = Package(
            fields["package"], fields["version"], int(fields["size"]), fields["sha256"].lower(), fields.get("depends", "")
        )
    except (KeyError, ValueError):
        return None
    return package if re.fullmatch(r"[0-9a-f]{64}", package.sha256) else None


def dependency_names(depends: str) -> list[str]:
    """Return package names in a Depends field, alternatives in order, without versions and architectures."""
    names = []
    for clause in depends.replace("|", ",").split(","):
        found = re.match(r"\s*([a-z0-9][a-z0-9+.-]+)", clause)
        if found:
            names.append(found.group(1))
    return names


class DebCache:
    """Packages in one folder (root, 0755), with a record of the checked ones."""

    def __init__(self, host: Host, directory: str, progress: Progress | None = None) -> None:
        self._host, self._directory, self._tell = host, directory, progress or silent

    def show(self, *names: str) -> dict[str, Package]:
        """Return the candidate versions from apt's index, or from the record. Unknown names are left out."""
        if self._alone:
            recorded = self._recorded()
            return {name: recorded[name] for name in names if name in recorded}
        try:
            # apt-cache exits with 100 if it lacks one of the names, but prints the others.
            answer = self._host.run(command("apt-cache", "show", "--no-all-versions", *names, ok=(0, 100), timeout=60))
        except ProgramMissing:
            stanzas: list[str] = []
        else:
            stanzas = re.split(r"\n\s*\n", answer.stdout)
        indexed = {package.name: package for package in map(parse_package, stanzas) if package is not None}
        found = {name: indexed[name] for name in names if name in indexed}
        self._record(found)
        recorded = self._recorded()
        return {name: package for name in names if (package := found.get(name) or recorded.get(name)) is not None}

    def fetch(self, package: Package) -> str:
        """Return the path of the package's file, downloaded unless a checked copy is cached.

        Raises ImageError NQR-IMG-002 if it is not available, NQR-IMG-003 if it does not match the index.
        """
        host = self._host
        path = f"{self._directory}/{package.file}"
        if self._has(path, package):
            return path
        self._tell(f"downloading {package.name} {package.version}", None)
        partial = f"{self._directory}/partial"
        try:
            self._download([package], partial, timeout=900)
            came = [f"{partial}/{name}" for name in host.listdir(partial) if name.endswith(".deb")]
            if len(came) != 1 or host.sha256(came[0]) != package.sha256:
                raise ImageError(
                    "NQR-IMG-003",
                    f"The file that apt downloaded as {package.name} differs from the file in its index.",
                    "Run apt-get update, check the package mirror, then run again.",
                )
            host.set_mode(came[0], mode=0o644, owner="root", group="root")
            host.rename(came[0], path)
        except (CommandFailed, CommandTimedOut, ProgramMissing) as error:
            raise ImageError(
                "NQR-IMG-002",
                f"The package {package.name} {package.version} could not be downloaded: {error}.",
                "Run apt-get update and check that the package mirror is reachable (proxy, DNS), then run again.",
            ) from error
        finally:
            host.remove_tree(partial)
        return path

    def fetch_all(self, packages: Sequence[Package]) -> dict[str, str]:
        """Download the missing ones of these packages in one call. Return sha256 -> name in the folder.

        These names must not contain the percent sign of an epoch: apt would take it for an escape in a `Filename`.
        Raises ImageError NQR-IMG-002, -003 as `fetch` does.
        """
        host = self._host
        names = {package.sha256: package.file.replace("%3a", "_") for package in packages}
        missing = [p for p in packages if not self._has(f"{self._directory}/{names[p.sha256]}", p)]
        if not missing:
            return names
        size = sum(package.size for package in missing) / 1e6
        self._tell(f"downloading {len(missing)} packages, {size:.0f} MB", None)
        partial = f"{self._directory}/partial"
        try:
            self._download(missing, partial, timeout=1800)
            came = {host.sha256(path): path for path in (f"{partial}/{name}" for name in host.listdir(partial))}
            wrong = [package.name for package in missing if package.sha256 not in came]
            if wrong:
                raise ImageError(
                    "NQR-IMG-003",
                    f"The file that apt downloaded as {', '.join(wrong)} differs from the file in its index.",
                    "Run apt-get update, check the package mirror, then run again.",
                )
            for package in missing:
                host.set_mode(came[package.sha256], mode=0o644, owner="root", group="root")
                host.rename(came[package.sha256], f"{self._directory}/{names[package.sha256]}")
        except (CommandFailed, CommandTimedOut, ProgramMissing) as error:
            raise ImageError(
                "NQR-IMG-002",
                f"{len(missing)} packages could not be downloaded: {error}.",
                "Run apt-get update and check that the package mirror is reachable (proxy, DNS), then run again.",
            ) from error
        finally:
            host.remove_tree(partial)
        return names

    def _download(self, packages: Sequence[Package], folder: str, *, timeout: float) -> None:
        """Let apt put these into a new folder. Raises HostError, ImageError."""
        if self._alone:
            raise ImageError(
                "NQR-IMG-002",
                f"{self._directory} lacks {', '.join(package.name for package in packages)}.",
                "Check the bundle with nqr bundle verify, then run again.",
            )
        self._host.remove_tree(folder)
        self._host.mkdir(folder, mode=0o755)
        trusted = certificates(self._host.environment())
        self._host.run(
            command(
                "apt-get",
                "-q",
                "-o",
                "APT::Sandbox::User=root",  # the sandbox user may not enter this folder; the caller checks what comes
                "-o",
                "Acquire::Retries=3",
                *(("-o", f"Acquire::https::CAInfo={trusted}") if trusted else ()),
                "download",
                *(f"{package.name}={package.version}" for package in packages),
                cwd=folder,
                timeout=timeout,
            ),
            on_line=lambda line: self._tell(line.strip(), None),
        )

    @property
    def _alone(self) -> bool:
        return self._host.exists(f"{self._directory}/{ALONE}")

    def _has(self, path: str, package: Package) -> bool:
        stat = self._host.stat(path)
        return stat is not None and stat.size == package.size and self._host.sha256(path) == package.sha256

    def ensure(self) -> None:
        """Create the folder and its missing parents."""
        missing = []
        path = self._directory
        while path and not self._host.exists(path):
            missing.append(path)
            path = path.rsplit("/", 1)[0]
        for path in reversed(missing):
            self._host.mkdir(path)

    def _recorded(self) -> dict[str, Package]:
        try:
            raw = json.loads(self._host.read_text(f"{self._directory}/{_RECORD}"))
            return {name: Package(**fields) for name, fields in raw.items()}
        except (HostError, ValueError, TypeError, AttributeError):
            return {}

    def _record(self, packages: dict[str, Package]) -> None:
        known = self._recorded()
        updated = {**known, **packages}
        if updated == known:
            return
        text = json.dumps({name: asdict(updated[name]) for name in sorted(updated)}, indent=1)
        self._host.write_file(f"{self._directory}/{_RECORD}", text.encode() + b"\n")
