"""Paths of a hostile tree are resolved inside of it, by the kernel (openat2) and by the walk that stands in for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nqrust.agent.disks.diskwrite.confined import Tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, which needs root")
MINE = "the host's own\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host with a file in it, which nothing in the tree may reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "hostname").write_text(MINE)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    return tmp_path / "tree"


@pytest.fixture(params=["openat2", "walk"])
def tree(request: pytest.FixtureRequest, root: Path) -> Iterator[Tree]:
    opened = Tree(str(root), native=None if request.param == "openat2" else False)
    if request.param == "openat2" and not opened.native:
        opened.close()
        pytest.skip("this kernel has no openat2")
    yield opened
    opened.close()


def put(tree: Tree, path: str, text: str = "web1\n") -> None:
    tree.write(path, text.encode(), mode=0o640, uid=12, gid=34)


def test_a_file_is_written_with_mode_and_owner(tree: Tree, root: Path) -> None:
    put(tree, "/etc/hostname")
    found = (root / "etc/hostname").stat()
    assert (root / "etc/hostname").read_text() == "web1\n"
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 12, 34)
    assert os.listdir(root / "etc") == ["hostname"]


@pytest.mark.parametrize("way", ["absolute", "dots"])
def test_a_folder_that_leads_out_is_looked_for_inside(tree: Tree, root: Path, outside: Path, way: str) -> None:
    (root / "etc").rmdir()
    (root / "etc").symlink_to(outside if way == "absolute" else "../" * 30 + str(outside).lstrip("/"))
    with pytest.raises(FileNotFoundError):
        put(tree, "/etc/hostname")
    with pytest.raises(FileNotFoundError):
        tree.is_folder("/etc")
    inside = root / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    put(tree, "/etc/hostname")
    assert (inside / "hostname").read_text() == "web1\n"
    assert (outside / "hostname").read_text() == MINE
    assert os.listdir(outside) == ["hostname"]


def test_links_inside_of_the_tree_are_followed(tree: Tree, root: Path) -> None:
    (root / "var" / "roothome").mkdir(parents=True)
    (root / "home2").symlink_to("/var/../var/./roothome/")
    (root / "root").symlink_to("home2")
    put(tree, "/root/a")
    assert (root / "var/roothome/a").read_text() == "web1\n"


@pytest.mark.parametrize("what", ["link", "device", "socket", "dangling"])
def test_what_stands_in_a_files_place_is_replaced_not_followed(tree: Tree, root: Path, outside: Path, what: str) -> None:
    place = root / "etc/hostname"
    if what == "link":
        place.symlink_to(outside / "hostname")
    elif what == "dangling":
        place.symlink_to(outside / "new")
    elif what == "device":
        os.mknod(place, stat.S_IFBLK | 0o666, os.makedev(7, 0))
    else:
        os.mknod(place, stat.S_IFSOCK | 0o666)
    with pytest.raises(OSError):
        if tree.read("/etc/hostname", 100) is None:
            raise AssertionError("there is something")
    put(tree, "/etc/hostname")
    assert place.read_text() == "web1\n" and not place.is_symlink()
    assert (outside / "hostname").read_text() == MINE and os.listdir(outside) == ["hostname"]


def test_a_fifo_does_not_hold_the_reader(tree: Tree, root: Path) -> None:
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(OSError):
        tree.read("/etc/passwd", 100)


@pytest.mark.parametrize("target", ["loop", "self"])
def test_links_in_a_circle_end(tree: Tree, root: Path, target: str) -> None:
    (root / "loop").symlink_to("self")
    (root / "self").symlink_to("/loop")
    with pytest.raises(OSError) as failed:
        put(tree, f"/{target}/x")
    assert failed.value.errno == 40, "ELOOP"


def test_a_file_or_folder_in_the_wrong_place(tree: Tree, root: Path) -> None:
    (root / "file").write_text("x")
    (root / "etc/hostname").mkdir()
    with pytest.raises(NotADirectoryError):
        put(tree, "/file/x")
    with pytest.raises(IsADirectoryError):
        put(tree, "/etc/hostname")
    assert os.listdir(root / "etc") == ["hostname"] and os.listdir(root / "etc/hostname") == []
    for path in ("/etc/..", "/etc/.", "/etc/"):
        with pytest.raises(OSError):
            put(tree, path)


def test_dots_never_lead_above_the_root(tree: Tree, root: Path, tmp_path: Path) -> None:
    put(tree, "/etc/../../../../../../etc/x")
    assert (root / "etc/x").exists() and not (tmp_path / "etc").exists()


def test_reading_has_a_limit(tree: Tree, root: Path) -> None:
    (root / "etc/passwd").write_text("x" * 101)
    with pytest.raises(OSError):
        tree.read("/etc/passwd", 100)
    assert tree.read("/etc/passwd", 101) == b"x" * 101
    assert tree.read("/etc/none", 1) is None and tree.read("/none/none", 1) is None


def test_folders_are_made_with_mode_and_owner(tree: Tree, root: Path) -> None:
    assert not tree.is_folder("/home")
    tree.make_folder("/home", mode=0o755, uid=0, gid=0)
    tree.make_folder("/home/ana", mode=0o750, uid=7, gid=8)
    assert tree.is_folder("/home/ana")
    found = (root / "home/ana").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o750, 7, 8)
    tree.set_access("/home/ana", mode=0o700, uid=9, gid=9)
    assert stat.S_IMODE((root / "home/ana").stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        tree.make_folder("/home", mode=0o755, uid=0, gid=0)


def test_nothing_stays_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (root / "loop").symlink_to("loop")
    for native in (None, False):
        opened = Tree(str(root), native=native)
        put(opened, "/etc/a")
        for path in ("/loop/x", "/none/x", "/etc/a/x"):
            with pytest.raises(OSError):
                put(opened, path)
        opened.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_replaces_a_file_has_its_selinux_label(tree: Tree, root: Path) -> None:
    """A guest that enforces them could not read an unlabelled /etc/passwd."""
    (root / "etc/passwd").write_text("old")
    try:
        os.setxattr(root / "etc/passwd", "security.selinux", b"system_u:object_r:passwd_file_t:s0")
        os.setxattr(root / "etc", "security.selinux", b"system_u:object_r:etc_t:s0")
    except OSError as error:
        pytest.skip(f"labels cannot be written here: {error.strerror}")
    put(tree, "/etc/passwd")
    put(tree, "/etc/new")
    assert os.getxattr(root / "etc/passwd", "security.selinux") == b"system_u:object_r:passwd_file_t:s0"
    assert os.getxattr(root / "etc/new", "security.selinux") == b"system_u:object_r:etc_t:s0"
