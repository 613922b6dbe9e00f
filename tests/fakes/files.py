"""A file system in memory, for FakeHost: the part of path_resolution(7), rename(2), rmdir(2) and mount(8) that a real
one would refuse or do. Raises OSError with the errno that Linux gives."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nqrust.host.errors import translated
from nqrust.host.port import Kind, Stat

_MAGIC = re.compile(r"[*?[]")
_MAX_LINKS = 40  # path_resolution(7)


@dataclass
class Node:
    """What is at a path. `children` of a directory, `data` of a file, `target` of a symlink."""

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytes = b""
    target: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)
    mtime_ns: int = 0
    inode: int = 0
    mounted: bool = False  # something else is mounted here
    hidden: Node | None = None

    def described(self) -> tuple[object, ...]:
        """What two equal nodes have in common: not the inode, not the time."""
        return (self.kind.value, self.mode, self.uid, self.gid, self.data or self.target, tuple(sorted(self.xattrs.items())))


def failure(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def refuse_another(path: str, found: Stat | None, seen: Stat | None) -> None:
    """A file that is not the one that was `seen`."""
    if seen is not None and (found is None or found.identity != seen.identity):
        raise translated(failure(errno.ESTALE, path), path)


class Tree:
    """`lookup` gives a node or raises; `parent` gives the directory that holds, or would hold, the last name."""

    def __init__(self) -> None:
        self.root = Node(Kind.directory, 0o755, inode=2)

    def lookup(self, path: str, *, follow: bool = True) -> Node:
        return self._walk(path, follow, [_MAX_LINKS])[0]

    def find(self, path: str) -> Node | None:
        """lstat's view: None when there is nothing."""
        try:
            return self.lookup(path, follow=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def parent(self, path: str) -> tuple[Node, str]:
        folder, name = os.path.split(path.rstrip("/"))
        if not name or name in (".", ".."):
            raise failure(errno.EINVAL, path)
        node = self.lookup(folder or "/")
        if node.kind is not Kind.directory:
            raise failure(errno.ENOTDIR, path)
        return node, name

    def canonical(self, path: str) -> str:
        """realpath(3), for what exists of the path."""
        return self._walk(path, True, [_MAX_LINKS])[1]

    def attach(self, path: str, node: Node) -> None:
        """Put a node at a path; what a rename(2) over it would refuse is refused."""
        folder, name = self.parent(path)
        there = folder.children.get(name)
        if there is not None and there.kind is Kind.directory and node.kind is not Kind.directory:
            raise failure(errno.EISDIR, path)
        if there is not None and node.kind is Kind.directory:
            if there.kind is not Kind.directory:
                raise failure(errno.ENOTDIR, path)
            if there.children:
                raise failure(errno.ENOTEMPTY, path)
        folder.children[name] = node

    def detach(self, path: str) -> Node:
        folder, name = self.parent(path)
        if name not in folder.children:
            raise failure(errno.ENOENT, path)
        if folder.children[name].mounted:
            raise failure(errno.EBUSY, path)
        return folder.children.pop(name)

    def rename(self, source: str, target: str) -> None:
        folder, name = self.parent(source)
        node = folder.children.get(name)
        if node is None:
            raise failure(errno.ENOENT, source)
        if node.mounted:
            raise failure(errno.EBUSY, source)
        holder, _ = self.parent(target)
        if node.kind is Kind.directory and any(holder is inner for _, inner in walk(node, "")):
            raise failure(errno.EINVAL, source)
        self.attach(target, node)
        if self.parent(target) != (folder, name):
            del folder.children[name]

    def mounts_below(self, node: Node, path: str) -> list[str]:
        return [where for where, inner in walk(node, path) if inner.mounted]

    def glob(self, pattern: str) -> list[str]:
        parts = [part for part in pattern.split("/") if part]
        return sorted(set(self._match(self.root, "", parts)))

    def _match(self, node: Node, path: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            yield path or "/"
            return
        part, rest = parts[0], parts[1:]
        if node.kind is Kind.symlink:
            try:
                node = self.lookup(path)
            except OSError:
                return
        if node.kind is not Kind.directory:
            return
        if part == "**":
            yield from self._match(node, path, rest)
            for name, child in node.children.items():
                if not name.startswith("."):
                    if child.kind is Kind.directory:
                        yield from self._match(child, f"{path}/{name}", parts)
                    elif not rest:
                        yield f"{path}/{name}"
            return
        if not _MAGIC.search(part):
            if part in node.children:
                yield from self._match(node.children[part], f"{path}/{part}", rest)
            return
        for name, child in node.children.items():
            if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
                yield from self._match(child, f"{path}/{name}", rest)

    def _walk(self, path: str, follow: bool, budget: list[int]) -> tuple[Node, str]:
        trail: list[tuple[str, Node]] = [("", self.root)]
        names = [name for name in path.split("/") if name not in ("", ".")]
        while names:
            name = names.pop(0)
            node = trail[-1][1]
            if node.kind is not Kind.directory:
                raise failure(errno.ENOTDIR, path)
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            child = node.children.get(name)
            if child is None:
                raise failure(errno.ENOENT, path)
            if child.kind is Kind.symlink and (names or follow):
                budget[0] -= 1
                if budget[0] < 0:
                    raise failure(errno.ELOOP, path)
                if child.target.startswith("/"):
                    trail = trail[:1]
                names = [part for part in child.target.split("/") if part not in ("", ".")] + names
                continue
            trail.append((name, child))
        return trail[-1][1], "/".join(name for name, _ in trail) or "/"


def walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The node and all below it, in order of path."""
    yield path or "/", node
    for name in sorted(node.children):
        yield from walk(node.children[name], f"{path.rstrip('/')}/{name}")
