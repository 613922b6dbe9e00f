"""The results of a rehearsal, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WrittenPath:
    """`sign`: `+` created, `~` changed, `-` removed. `size`: bytes of a created or changed file."""

    sign: str
    path: str
    size: int = 0


@dataclass(frozen=True)
class Measured:
    """A difference other than a file: `section` of the fingerprint, `text` for people."""

    section: str
    sign: str
    key: str
    text: str


@dataclass(frozen=True)
class Group:
    """Paths below a top folder of the host; `size` in bytes."""

    folder: str
    created: int = 0
    changed: int = 0
    removed: int = 0
    size: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """`seconds`: total time; `install_seconds`: time of the install alone. `predicted`: number of changes in the plan.
    `unmeasured`: sentences on what a clone cannot show. `booted`: whether systemd was the clone's first process."""

    seconds: float
    install_seconds: float
    predicted: int
    booted: bool
    paths: tuple[WrittenPath, ...] = ()
    differences: tuple[Measured, ...] = ()
    unmeasured: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(one.size for one in self.paths)


def groups(paths: Iterable[WrittenPath]) -> tuple[Group, ...]:
    """Return the paths grouped by top folder, sorted by name."""
    found: dict[str, list[int]] = {}
    for one in paths:
        parts = one.path.split("/")
        numbers = found.setdefault("/" + parts[1] if len(parts) > 1 else "/", [0, 0, 0, 0])
        numbers["+~-".index(one.sign)] += 1
        numbers[3] += one.size
    return tuple(Group(folder, *found[folder]) for folder in sorted(found))


def as_document(found: Rehearsal) -> dict[str, Any]:
    """Return all results as a document for programs."""
    return {
        "seconds": round(found.seconds, 3),
        "install_seconds": round(found.install_seconds, 3),
        "predicted": found.predicted,
        "booted": found.booted,
        "bytes": found.size,
        "folders": [
            {"folder": g.folder, "created": g.created, "changed": g.changed, "removed": g.removed, "bytes": g.size}
            for g in groups(found.paths)
        ],
        "paths": [{"sign": one.sign, "path": one.path, "bytes": one.size} for one in found.paths],
        "differences": [
            {"section": one.section, "sign": one.sign, "key": one.key, "text": one.text} for one in found.differences
        ],
        "unmeasured": list(found.unmeasured),
    }


@dataclass
class Heard:
    """The reports from the clone so far."""

    paths: list[WrittenPath] = field(default_factory=list)
    differences: list[Measured] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)  # the last lines of other output
    reason: str = ""  # why there is no result
    without_network: str = ""  # why the clone has no network
    started: bool = False
    in_preflight: bool = False
    code: int | None = None
    seconds: float = 0.0
    summary: dict[str, Any] | None = None
