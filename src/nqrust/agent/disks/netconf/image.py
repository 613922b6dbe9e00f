"""Facts about an image. It is untrusted: its content decides about its own network only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LARGEST_TEXT = 64 << 10
"""Bytes read of a file."""
LARGEST_FOLDER = 64 << 10
"""Bytes listed of a folder: a few hundred names."""
MOST_NAMES = 256
SYSTEM_UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Wanted:
    """Paths to look at: for existence, for reading, and folders to list with their files."""

    paths: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(self.paths | other.paths, self.texts | other.texts, self.folders | other.folders)

    def everything(self) -> list[str]:
        return sorted(self.paths | self.texts | self.folders)


@dataclass(frozen=True)
class Image:
    """`kinds`: path -> directory, regular, symlink or another, from lstat(2), without paths that do not exist.

    `links`: targets of links. `texts`: of plain files; None if one is too long or not a plain file. `names`: of folders; None if
    one cannot be listed.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str | None] = field(default_factory=dict)
    names: Mapping[str, Sequence[str] | None] = field(default_factory=dict)

    def has(self, *paths: str) -> bool:
        """Return whether one of them exists."""
        return any(path in self.kinds for path in paths)

    def text(self, path: str) -> str:
        """Return the text, or "" if it cannot be read."""
        return self.texts.get(path) or ""

    @property
    def systemd(self) -> bool:
        """Whether its init is systemd."""
        return self.links.get("/sbin/init", "").rpartition("/")[2] == "systemd"

    def enabled(self, unit: str) -> bool:
        """Return whether systemd starts the service `unit` at boot. Needs `unit_paths(unit)`."""
        return self.systemd and self.has(*_wants(unit)) and not self.masked(unit)

    def masked(self, unit: str) -> bool:
        return self.links.get(f"{SYSTEM_UNITS}/{unit}") == "/dev/null"


def unit_paths(*units: str) -> frozenset[str]:
    """Return the paths that show whether systemd starts the units."""
    found = {"/sbin/init"}
    for unit in units:
        found |= {f"{SYSTEM_UNITS}/{unit}", *_wants(unit)}
    return frozenset(found)


def _wants(unit: str) -> list[str]:
    return [
        f"{SYSTEM_UNITS}/{target}.target.wants/{unit}" for target in ("multi-user", "network-online", "network", "cloud-init")
    ]
