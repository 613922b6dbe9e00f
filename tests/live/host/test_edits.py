"""A file is edited in its place: what is written is about what was read. Over the real host and the fake host."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.live.host.test_conformance import Machine, machine

from nqrust.host.errors import PathError, PathMissing

__all__ = ["machine"]


def upper(before: bytes) -> bytes:
    return before.upper()


def test_an_edited_file_keeps_its_mode(machine: Machine) -> None:
    path = machine.write("a", b"abc", 0o640)
    machine.host.edit_file(path, upper, follow=False)
    found = machine.host.stat(path)
    assert machine.host.read_bytes(path) == b"ABC" and found is not None and found.mode == 0o640
    assert machine.host.listdir(machine.root) == ["a"]


def test_a_file_that_needs_no_edit_stays_the_same(machine: Machine) -> None:
    path = machine.write("a", b"abc")
    before = machine.host.stat(path)
    machine.host.edit_file(path, lambda before: None)
    assert machine.host.stat(path) == before


@pytest.mark.parametrize(("left", "stays"), [(b" \n", False), (b"a", True)])
def test_a_file_that_an_edit_empties_is_removed_where_that_is_wanted(machine: Machine, left: bytes, stays: bool) -> None:
    path = machine.write("a", b"abc")
    machine.host.edit_file(path, lambda before: left)
    assert machine.host.read_bytes(path) == left
    machine.host.edit_file(path, lambda before: left, remove_empty=True)
    assert machine.host.listdir(machine.root) == ["a"] * stays


def test_links_are_not_edited(machine: Machine) -> None:
    folder = machine.mkdir("d")
    real = machine.write("d/a", b"abc")
    machine.host.symlink(real, machine.at("link"))
    machine.host.symlink(folder, machine.at("way"))
    edits: list[Callable[[], None]] = [
        lambda: machine.host.edit_file(machine.at("link"), upper),
        lambda: machine.host.edit_file(machine.at("way/a"), upper, follow=False),
    ]
    for edit in edits:
        with pytest.raises(PathError) as refused:
            edit()
        assert refused.value.errno == errno.ELOOP and machine.host.read_bytes(real) == b"abc"
    machine.host.edit_file(machine.at("way/a"), upper)
    assert machine.host.read_bytes(real) == b"ABC"


def test_only_a_plain_file_is_edited(machine: Machine) -> None:
    with pytest.raises(PathMissing):
        machine.host.edit_file(machine.at("none"), upper)
    with pytest.raises(PathError) as refused:
        machine.host.edit_file(machine.mkdir("d"), upper)
    assert refused.value.errno == errno.EINVAL
    path = machine.write("a", b"abc")
    with pytest.raises(LookupError):
        machine.host.edit_file(path, lambda before: {}[before])
    assert machine.host.read_bytes(path) == b"abc"
