"""Changes in the layers of an overlay (Documentation/filesystems/overlayfs.rst): created, changed, removed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

Mark = dict[str, tuple[int, int, int]]
"""Maps each path in the layer to its size, change time in ns and inode when the mark was made."""

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Layer:
    """`lower`: the host's folder below it; `upper`: the folder for writes; `path`: the path of both in the clone."""

    path: str
    lower: str
    upper: str


@dataclass(frozen=True)
class Written:
    """`sign`: `+` created, `~` changed, `-` removed. `size` in bytes of a created or changed file."""

    sign: str
    path: str
    size: int = 0


def mark(layer: Layer) -> Mark:
    """Return a mark of the layer's current content."""
    return {path: _state(found) for path, found in _walk(layer.upper)}


def written(layer: Layer, since: Mark) -> list[Written]:
    """Return the paths created, changed or removed since the mark, sorted by path. Ignores files opened for writing but
    unchanged, and folders of which only the content changed."""
    found: list[Written] = []
    for path, entry in _walk(layer.upper):
        if since.get(path) == _state(entry):
            continue
        relative = path[len(layer.upper) :]
        lower, shown = layer.lower.rstrip("/") + relative, layer.path.rstrip("/") + relative
        before = _lstat(lower)
        known = before is not None or path in since
        if _is_whiteout(entry):
            if before is not None:
                found.append(Written("-", shown))
        elif stat.S_ISDIR(entry.st_mode):
            found.extend(_folder(path, entry, lower, shown, known))
        elif path in since:
            found.append(Written("~", shown, _size(entry)))
        elif before is None:
            found.append(Written("+", shown, _size(entry)))
        elif _differs(path, entry, lower, before):
            found.append(Written("~", shown, _size(entry)))
    found.extend(
        Written("-", layer.path.rstrip("/") + path[len(layer.upper) :])
        for path in since
        if not os.path.lexists(path) and _lstat(layer.lower.rstrip("/") + path[len(layer.upper) :]) is None
    )
    return sorted(found, key=lambda one: one.path)


def _folder(path: str, entry: os.stat_result, lower: str, shown: str, known: bool) -> Iterator[Written]:
    if not known:
        yield Written("+", shown)
        return
    before = _lstat(lower)
    if before is None:
        return
    if _identity(entry) != _identity(before):
        yield Written("~", shown)
    if stat.S_ISDIR(before.st_mode) and _is_opaque(path):  # removed and created again
        here = set(os.listdir(path))
        for name in sorted(set(os.listdir(lower)) - here):
            yield Written("-", f"{shown}/{name}")


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    left = [root]
    while left:
        folder = left.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry.path, found
            if stat.S_ISDIR(found.st_mode):
                left.append(entry.path)


def _state(entry: os.stat_result) -> tuple[int, int, int]:
    if stat.S_ISDIR(entry.st_mode):  # its content has entries of its own
        return entry.st_mode, entry.st_uid, entry.st_gid
    return entry.st_size, entry.st_ctime_ns, entry.st_ino


def _identity(entry: os.stat_result) -> tuple[int, int, int]:
    return entry.st_mode, entry.st_uid, entry.st_gid


def _differs(path: str, entry: os.stat_result, lower: str, before: os.stat_result) -> bool:
    if _identity(entry) != _identity(before) or _size(entry) != _size(before):
        return True
    try:
        if stat.S_ISLNK(entry.st_mode):
            return os.readlink(path) != os.readlink(lower)
        return stat.S_ISREG(entry.st_mode) and _digest(path) != _digest(lower)
    except OSError:
        return True


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()


def _size(entry: os.stat_result) -> int:
    return entry.st_size if stat.S_ISREG(entry.st_mode) else 0


def _is_whiteout(entry: os.stat_result) -> bool:
    return stat.S_ISCHR(entry.st_mode) and entry.st_rdev == 0


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
