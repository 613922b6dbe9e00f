"""Reads a mounted tree for decisions about its network. Unreadable entries count as missing."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from nqrust.agent.disks.diskwrite.confined import Tree
from nqrust.agent.disks.netconf.image import LARGEST_TEXT, MOST_NAMES, Image, Wanted

_KINDS = {stat.S_IFREG: "regular", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def look(tree: Tree, wanted: Wanted) -> Image:
    kinds = {path: kind for path in wanted.everything() if (kind := _kind(tree, path))}
    links = {path: target for path, kind in kinds.items() if kind == "symlink" and (target := _target(tree, path))}
    names: dict[str, Sequence[str] | None] = {path: _names(tree, path) for path in wanted.folders if path in kinds}
    read = [path for path in wanted.texts if path in kinds]
    read += [f"{folder}/{name}" for folder, listed in names.items() for name in listed or ()]
    return Image(kinds, links, {path: _text(tree, path) for path in read}, names)


def _kind(tree: Tree, path: str) -> str:
    try:
        found = tree.status(path)
    except OSError:
        return ""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "other") if found else ""


def _target(tree: Tree, path: str) -> str:
    try:
        return tree.target(path)
    except OSError:
        return ""


def _names(tree: Tree, path: str) -> list[str] | None:
    try:
        return tree.names(path, MOST_NAMES)
    except OSError:
        return None


def _text(tree: Tree, path: str) -> str | None:
    try:
        content = tree.read(path, LARGEST_TEXT)
    except OSError:
        return None
    return None if content is None else content.decode(errors="replace")
