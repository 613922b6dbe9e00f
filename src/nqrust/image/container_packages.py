"""The Debian packages of image `container-runtime`, as a small repository in the package cache.

The host's own apt resolves the packages (apt-get(8), `--simulate` against an empty system). It downloads them from the host's
sources and verifies every digest. The result is a flat repository (sources.list(5)). mmdebstrap sees nothing else, so it
needs no network. Without a network, the build uses an earlier build's repository.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image.debs import DebCache, parse_package
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress

SUITE = "nqrust"
_INDEX, _RELEASE = "Packages", "Release"
# An empty system, with its own caches, so that the host's are not replaced.
_EMPTY = ("-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
_INST = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
_CURE = "Run apt-get update with the distribution's main archive (Ubuntu: universe too) enabled, then run again."


@dataclass(frozen=True)
class Repository:
    """`folder`: its path. `include`: the packages to request; the essential ones are always included."""

    folder: str
    include: tuple[str, ...]

    @property
    def source(self) -> str:
        """Return its line for sources.list(5). Trusted: every file was checked against the host's signed index."""
        return f"deb [trusted=yes] copy:{self.folder} ./"


@dataclass(frozen=True)
class Selection:
    """`required` must exist. Of each group in `choices` the first whole alternative that exists is taken, if any."""

    required: tuple[str, ...]
    choices: tuple[tuple[tuple[str, ...], ...], ...] = ()


def repository(host: Host, cache_dir: str, selection: Selection, tell: Progress) -> Repository:
    """Download the packages and their dependencies into `cache_dir`/container-runtime.

    Raises ImageError NQR-IMG-002 if they are not available, NQR-IMG-003 if they do not match the index.
    """
    folder = f"{cache_dir}/container-runtime"
    cache = DebCache(host, folder, tell)
    cache.ensure()
    try:
        wanted = _choose(host, selection)
        stanzas = _resolve(host, wanted)
    except HostError as error:
        kept = _kept(host, folder, selection)
        if kept is None:
            raise ImageError("NQR-IMG-002", f"apt does not list the packages for a container guest: {error}.", _CURE) from error
        tell("using the packages that an earlier build kept", None)
        return Repository(folder, kept)
    packages = [package for package in map(parse_package, stanzas) if package is not None]
    names = cache.fetch_all(packages)
    index = "\n\n".join(_placed(stanza, names) for stanza in stanzas) + "\n"
    _write(host, folder, index, wanted)
    for file in set(host.listdir(folder)) - set(names.values()):
        if file.endswith(".deb"):
            host.remove(f"{folder}/{file}")  # versions that the archive does not have any more
    return Repository(folder, wanted)


def _choose(host: Host, selection: Selection) -> tuple[str, ...]:
    asked = (*selection.required, *(name for group in selection.choices for names in group for name in names))
    # apt-cache exits with 100 if it lacks one of the names, but prints the others.
    told = host.run(command("apt-cache", "show", "--no-all-versions", *asked, ok=(0, 100), timeout=120)).stdout
    known = set(re.findall(r"(?m)^Package: (\S+)$", told))
    missing = [name for name in selection.required if name not in known]
    if missing:
        raise HostError(f"its index has no {', '.join(missing)}")
    taken = [next((names for names in group if known.issuperset(names)), ()) for group in selection.choices]
    return (*selection.required, *(name for names in taken for name in names))


def _resolve(host: Host, wanted: tuple[str, ...]) -> list[str]:
    """Return stanzas of everything that an empty system would get."""
    simulated = host.run(
        command("apt-get", *_EMPTY, "--simulate", "-q", "--no-install-recommends", "install", "?essential", *wanted, timeout=300)
    ).stdout
    pins = [f"{name}={version}" for name, version in _INST.findall(simulated)]
    if not pins:
        raise HostError("its answer names no packages")
    shown = host.run(command("apt-cache", *_EMPTY, "show", "--no-all-versions", *pins, timeout=300)).stdout
    stanzas = [stanza.strip("\n") for stanza in re.split(r"\n\s*\n", shown) if stanza.strip()]
    usable = [stanza for stanza in stanzas if parse_package(stanza) is not None]
    if len(usable) < len(pins):
        raise HostError(f"it has the digests of only {len(usable)} of {len(pins)} packages")
    return usable


def _placed(stanza: str, names: dict[str, str]) -> str:
    package = parse_package(stanza)
    assert package is not None  # _resolve kept no others
    return re.sub(r"(?m)^Filename: .*$", f"Filename: ./{names[package.sha256]}", stanza)


def _write(host: Host, folder: str, index: str, wanted: tuple[str, ...]) -> None:
    data = index.encode()
    # apt of Debian 11 refuses a Release without a date.
    date = datetime.fromtimestamp(int(host.now()), timezone.utc).strftime("%a, %d %b %Y %H:%M:%S +0000")
    release = (
        f"Suite: {SUITE}\nCodename: {SUITE}\nDate: {date}\nArchitectures: amd64\nDescription: {' '.join(wanted)}\nSHA256:\n"
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {_INDEX}\n"
    )
    host.remove(f"{folder}/{_RELEASE}")  # written last: without it the repository is ignored, see _kept
    host.write_file(f"{folder}/{_INDEX}", data)
    host.write_file(f"{folder}/{_RELEASE}", release.encode())


def _kept(host: Host, folder: str, selection: Selection) -> tuple[str, ...] | None:
    """Return an earlier build's repository if every file in its index is present and unchanged."""
    try:
        release = host.read_text(f"{folder}/{_RELEASE}")
        index = host.read_text(f"{folder}/{_INDEX}")
        wanted = tuple(re.search(r"(?m)^Description: (.+)$", release).group(1).split())  # type: ignore[union-attr]
        if hashlib.sha256(index.encode()).hexdigest() not in release or not set(selection.required) <= set(wanted):
            return None
        for file, sha256 in _files(index):
            if host.sha256(f"{folder}/{file}") != sha256:
                return None
    except (HostError, AttributeError):
        return None
    return wanted


def _files(index: str) -> list[tuple[str, str]]:
    found = []
    for stanza in index.split("\n\n"):
        package = parse_package(stanza)
        if package is not None:
            found.append((package.file.replace("%3a", "_"), package.sha256))
    return found
