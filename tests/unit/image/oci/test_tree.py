"""Layers on each other: the tree is what a container engine would show, and no name leads out of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.image.errors import ImageError
from nqrust.image.oci.tree import Is, Node, Tree

File = tuple[str, int]


def node(kind: Is, layer: int, **more: Any) -> Node:
    return Node(kind, layer, **more)


def made(*entries: tuple[int, str]) -> Tree:
    """A tree of entries (layer, name): `x/` is a folder, `x>y` a link, whiteouts by their names, others are files."""
    tree = Tree()
    for layer, name in entries:
        path, arrow, target = name.partition(">")
        if tree.whiteout(path, layer):
            continue
        if arrow:
            tree.put(path, node(Is.symlink, layer, target=target))
        else:
            tree.put(path, node(Is.directory if name.endswith("/") else Is.file, layer))
    return tree


def names(tree: Tree) -> list[str]:
    return [path for path, _ in tree.walk() if path != "/"]


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([(1, "a/b"), (2, "a/.wh.b")], ["/a"]),
        ([(1, "a/b"), (1, "a/c"), (2, ".wh.a")], []),
        ([(1, "a/b"), (2, "a/.wh..wh..opq"), (2, "a/c")], ["/a", "/a/c"]),
        ([(1, "a/b"), (2, "a/c"), (2, "a/.wh..wh..opq")], ["/a", "/a/c"]),
        ([(1, "a/b/old"), (2, "a/b/new"), (2, "a/.wh..wh..opq")], ["/a", "/a/b", "/a/b/new"]),
        ([(1, "a/b"), (2, "a/b"), (2, "a/.wh.b")], ["/a", "/a/b"]),
        ([(1, "a/x"), (2, ".wh.a"), (2, "a/"), (2, "a/y")], ["/a", "/a/y"]),
        ([(1, "a/x"), (2, "a/"), (2, "a/y"), (2, ".wh.a")], ["/a", "/a/y"]),
        ([(1, "a"), (2, "a/b")], ["/a", "/a/b"]),
        ([(1, "a/b"), (2, "a")], ["/a"]),
        ([(1, "a"), (2, ".wh.nothing"), (2, "b/.wh.c")], ["/a"]),
        ([(1, "a"), (2, ".wh..wh.plnk"), (2, ".wh.")], ["/a"]),
        ([(1, "usr/bin/"), (1, "bin>usr/bin"), (2, "bin/x")], ["/bin", "/usr", "/usr/bin", "/usr/bin/x"]),
        ([(1, "usr/bin/x"), (1, "bin>/usr/bin"), (2, "bin/.wh.x")], ["/bin", "/usr", "/usr/bin"]),
        ([(1, "out>../../../etc"), (2, "out/passwd")], ["/etc", "/etc/passwd", "/out"]),
        ([(1, "./a/./b"), (1, "/c")], ["/a", "/a/b", "/c"]),
    ],
)
def test_layers_become_one_tree(entries: list[tuple[int, str]], left: list[str]) -> None:
    assert names(made(*entries)) == left


def test_a_folder_named_again_keeps_its_files_and_takes_the_new_mode() -> None:
    tree = made((1, "a/b"))
    tree.put("a", node(Is.directory, 2, mode=0o700, uid=5))
    found = tree.find("a")
    assert found is not None and (found.mode, found.uid) == (0o700, 5) and names(tree) == ["/a", "/a/b"]


def test_a_hard_link_is_the_same_file() -> None:
    tree = made((1, "a"))
    tree.link("b/c", "./a", 1)
    assert tree.find("a") is tree.find("b/c") is not None


@pytest.mark.parametrize("target", ["../etc/passwd", "/etc/passwd", "missing", "d", "loop/x"])
def test_a_hard_link_to_no_file_of_the_image_is_refused(target: str) -> None:
    tree = made((1, "d/"), (1, "loop>loop"))
    with pytest.raises(ImageError) as refused:
        tree.link("b", target, 1)
    assert refused.value.code == "NQR-IMG-034"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/..", "a/" + "b" * 256, "a/" * 300 + "x", "x" * 5000, "a\nb", "a\x1bb", "loop/x"]
)
def test_a_hostile_name_is_refused(name: str) -> None:
    tree = made((1, "loop>loop"))
    with pytest.raises(ImageError) as refused:
        tree.put(name, node(Is.file, 1))
    assert refused.value.code == "NQR-IMG-034"
    assert names(tree) == ["/loop"]


_NAME = st.sampled_from(["a", "b", "c", "..", ".", "link", ".wh.a", ".wh.b", ".wh..wh..opq", "x" * 256, "\x1b"])
_PATH = st.lists(_NAME, min_size=1, max_size=5).map("/".join)
_ENTRY = st.tuples(st.sampled_from([*Is, "hard"]), _PATH, _PATH, st.booleans())


@given(st.lists(st.lists(_ENTRY, max_size=12), max_size=4))
def test_whatever_the_layers_say_the_tree_holds_plain_names_only(layers: list[list[Any]]) -> None:
    """Every name of the result is one that a file system takes, every folder is reachable once, and nothing is left behind."""
    tree = Tree()
    for number, entries in enumerate(layers, start=1):
        for kind, path, target, absolute in entries:
            try:
                if tree.whiteout(path, number):
                    continue
                if kind == "hard":
                    tree.link(path, target, number)
                else:
                    tree.put(path, node(kind, number, target=f"{'/' if absolute else ''}{target}"))
            except ImageError as refused:
                assert refused.code == "NQR-IMG-034"
    seen = list(tree.walk())
    for path, found in seen:
        assert ".." not in path.split("/") and not path.rpartition("/")[2].startswith(".wh.")
        assert found.kind is Is.directory or not found.children
    folders = [id(found) for _, found in seen if found.kind is Is.directory]
    assert len(folders) == len(set(folders))


_FLAT = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a"])


@given(st.lists(st.tuples(st.sets(_FLAT), st.sets(_FLAT), st.booleans()), max_size=5))
def test_whiteouts_agree_with_a_model(layers: list[tuple[set[str], set[str], bool]]) -> None:
    """The model: a layer first removes from the lower ones, then adds its files. The order within the layer does not count."""
    expected: set[str] = set()
    tree = Tree()
    for number, (added, removed, opaque) in enumerate(layers, start=1):
        expected -= removed
        if opaque:
            expected = {path for path in expected if not path.startswith("d/")}
        expected |= added
        whiteouts = ["/".join([*path.split("/")[:-1], ".wh." + path.split("/")[-1]]) for path in sorted(removed)]
        whiteouts += ["d/.wh..wh..opq"] if opaque else []
        halves = (sorted(added), whiteouts) if number % 2 else (whiteouts, sorted(added))
        for path in (*halves[0], *halves[1]):
            if not tree.whiteout(path, number):
                tree.put(path, node(Is.file, number))
    assert {path[1:] for path, found in tree.walk() if found.kind is Is.file} == expected


def test_whiteouts_that_repeat_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a few bytes, they looked at every name of a folder again: for hours, with the entries that a layer may have."""
    monkeypatch.setattr("nqrust.image.oci.tree.MOST_STEPS", 20_000)
    tree = Tree()
    for number in range(1000):
        tree.put(f"d/{number}", node(Is.file, 1))
    with pytest.raises(ImageError, match="too much time"):
        for _ in range(1000):
            tree.whiteout("d/.wh..wh..opq", 1)


def test_names_through_long_links_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nqrust.image.oci.tree.MOST_STEPS", 20_000)
    tree = Tree()
    for number in range(30):
        tree.put(f"l{number}", Node(Is.symlink, 1, target="../" * 1000 + (f"l{number + 1}" if number < 29 else "x")))
    tree.put("x", node(Is.directory, 1))
    with pytest.raises(ImageError, match="too much time"):
        tree.put("l0/f", node(Is.file, 1))
