"""What was seen of an image. It is the image's: it may be anything, and decides about its own network only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LARGEST_TEXT = 64 << 10
"""Bytes of a file that is read."""
LARGEST_FOLDER = 64 << 10
"""Bytes of a folder that is listed: some hundred names."""
MOST_NAMES = 256
SYSTEM_UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Wanted:
    """What shall be looked at: is there, is read, is listed with its files read."""

    paths: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(self.paths | other.paths, self.texts | other.texts, self.folders | other.folders)

    def everything(self) -> list[str]:
        return sorted(self.paths | self.texts | self.folders)


@dataclass(frozen=True)
class Image:
    """`kinds`: path -> directory, regular, symlink or another, as lstat(2) has it; what is not there is missing.
    `links`: targets of links. `texts`: of plain files, None where one is too long or no plain file.
    `names`: of folders, None where one cannot be listed."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str | None] = field(default_factory=dict)
    names: Mapping[str, Sequence[str] | None] = field(default_factory=dict)

    def has(self, *paths: str) -> bool:
        """Whether one of them is there."""
        return any(path in self.kinds for path in paths)

    def text(self, path: str) -> str:
        """Empty when there is none that can be read."""
        return self.texts.get(path) or ""

    @property
    def systemd(self) -> bool:
        """Whether its init is systemd."""
        return self.links.get("/sbin/init", "").rpartition("/")[2] == "systemd"

    def enabled(self, unit: str) -> bool:
        """Whether systemd starts the service `unit` at boot. Ask for `unit_paths(unit)`."""
        return self.systemd and self.has(*_wants(unit)) and not self.masked(unit)

    def masked(self, unit: str) -> bool:
        return self.links.get(f"{SYSTEM_UNITS}/{unit}") == "/dev/null"


def unit_paths(*units: str) -> frozenset[str]:
    """Where it shows whether systemd starts them."""
    found = {"/sbin/init"}
    for unit in units:
        found |= {f"{SYSTEM_UNITS}/{unit}", *_wants(unit)}
    return frozenset(found)


def _wants(unit: str) -> list[str]:
    return [
        f"{SYSTEM_UNITS}/{target}.target.wants/{unit}" for target in ("multi-user", "network-online", "network", "cloud-init")
    ]
