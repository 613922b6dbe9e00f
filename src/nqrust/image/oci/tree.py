"""The file system that the layers of an image make together (OCI image specification, layer.md). Pure: no file is touched.

Names are resolved inside the tree only, so no name or link of a layer leads out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from nqrust.image.errors import ImageError

WHITEOUT, OPAQUE, RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
MOST_LINKS = 40
"""Links in one name, as Linux has it (path_resolution(7))."""
LONGEST_NAME, LONGEST_PATH, DEEPEST = 255, 4095, 256
MOST_STEPS = 50_000_000
"""Names that all layers together may look at, about half a minute: links and whiteouts repeat work for a few bytes each."""


class Is(Enum):
    directory = "directory"
    file = "file"
    symlink = "symlink"


@dataclass(eq=False)
class Node:
    """`layer`: the last one that named it. `content`: number of a file's content. `mode`: the 12 permission bits."""

    kind: Is
    layer: int
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    content: int | None = None
    target: str = ""
    children: dict[str, Node] = field(default_factory=dict)


class Tree:
    def __init__(self) -> None:
        self.root = Node(Is.directory, 0)
        self._steps = 0

    def put(self, path: str, node: Node) -> None:
        """Place a file, link or folder. A folder that is there already keeps its content. Raises ImageError NQR-IMG-034."""
        names = parts(path)
        if not names:
            if node.kind is Is.directory:
                _take_over(self.root, node)
            return
        parent = self._folder(names[:-1], node.layer)
        there = parent.children.get(names[-1])
        if there is not None and there.kind is node.kind is Is.directory:
            _take_over(there, node)
        else:
            parent.children[names[-1]] = node

    def link(self, path: str, target: str, layer: int) -> None:
        """Make another name of a file. Raises ImageError NQR-IMG-034 if the target is not a file of the tree."""
        names, there = parts(path), self.find(target)
        if there is None or there.kind is Is.directory or not names:
            raise hostile(f"the link {shown(path)} leads to {shown(target)}, which is not a file of the image")
        self._folder(names[:-1], layer).children[names[-1]] = there
        there.layer = layer

    def whiteout(self, path: str, layer: int) -> bool:
        """Remove what lower layers have at the name of a whiteout. Return whether `path` is one, or another reserved name."""
        names = parts(path)
        if not names or not names[-1].startswith(WHITEOUT):
            return False
        name = names[-1]
        parent = self._look(names[:-1])
        if parent is None or parent.kind is not Is.directory:
            return True
        if name == OPAQUE:
            for child in list(parent.children):
                self._remove_lower(parent, child, layer)
        elif not name.startswith(RESERVED) and name != WHITEOUT:
            self._remove_lower(parent, name[len(WHITEOUT) :], layer)
        return True

    def find(self, path: str) -> Node | None:
        """Return what is at a path, without following a link at its end."""
        names = parts(path)
        parent = self._look(names[:-1]) if names else self.root
        if parent is None or parent.kind is not Is.directory:
            return None
        return parent.children.get(names[-1]) if names else parent

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield (path, node), parents first. A file with several names comes several times."""
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            yield path or "/", node
            waiting += [(f"{path}/{name}", node.children[name]) for name in sorted(node.children, reverse=True)]

    def _folder(self, names: list[str], layer: int) -> Node:
        """Return the folder, made where it is missing. A file in the way is replaced."""
        found = self._resolve(names, layer)
        assert found is not None
        return found

    def _look(self, names: list[str]) -> Node | None:
        return self._resolve(names, None)

    def _resolve(self, names: list[str], layer: int | None) -> Node | None:
        """Follow `names`, and links among them. `layer`: make missing folders for it; None: return None for what is missing."""
        above: list[Node] = []
        node, rest, links = self.root, list(reversed(names)), 0
        while rest:
            self._step()
            name = rest.pop()
            if name == "..":
                node = above.pop() if above else self.root
                continue
            child = node.children.get(name)
            if child is not None and child.kind is Is.symlink:
                links += 1
                if links > MOST_LINKS:
                    raise hostile(f"{shown('/'.join(names))} goes through more than {MOST_LINKS} links")
                if child.target.startswith("/"):
                    node, above = self.root, []
                rest += [part for part in reversed(child.target.split("/")) if part not in ("", ".")]
                continue
            if child is None or child.kind is not Is.directory:
                if layer is None:
                    return None
                if name.startswith(WHITEOUT):
                    raise hostile(f"{shown('/'.join(names))} has a folder with a reserved name")
                child = Node(Is.directory, layer)
                node.children[name] = child
            above.append(node)
            node = child
            if len(above) > DEEPEST:
                raise hostile(f"{shown('/'.join(names))} has more than {DEEPEST} folders")
        return node

    def _remove_lower(self, parent: Node, name: str, layer: int) -> None:
        """Remove a child, except for what the same layer put into it."""
        self._step()
        child = parent.children.get(name)
        if child is None:
            return
        if child.kind is Is.directory:
            for below in list(child.children):
                self._remove_lower(child, below, layer)
        if child.layer < layer and not child.children:
            del parent.children[name]

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise hostile("its links and whiteouts take too much time")


def parts(path: str) -> list[str]:
    """Return the names of a path. A leading slash means nothing. Raises ImageError NQR-IMG-034 for `..` and unusable names."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise hostile(f"the name {shown(path)} contains “..”")
    if len(path.encode(errors="surrogateescape")) > LONGEST_PATH or len(names) > DEEPEST:
        raise hostile(f"the name {shown(path)} is too long")
    for name in names:
        if len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
            raise hostile(f"the name {shown(path)} is too long")
        if any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in name):
            raise hostile(f"the name {shown(path)} has control characters")
    return names


def hostile(why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-034",
        f"A layer of the container image is not usable: {why}.",
        "Use another image, or ask its publisher.",
    )


def shown(name: str) -> str:
    """Return a name of an image so that a terminal can show it."""
    text = ascii(name)[1:-1]
    return f"“{text if len(text) <= 80 else text[:77] + '...'}”"


def _take_over(there: Node, new: Node) -> None:
    there.layer, there.mode, there.uid, there.gid, there.mtime = new.layer, new.mode, new.uid, new.gid, new.mtime
