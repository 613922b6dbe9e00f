"""What root removes, renames or hands over below a folder of another user stays below it, whatever that user puts there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.host.errors import PathError
from nqrust.host.local import LocalHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the folder's user")

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of another user, and a folder with precious things outside."""
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "precious/tree/below").mkdir(parents=True)
    (tmp_path / "precious/empty").mkdir()
    (tmp_path / "precious/file").write_text("x")
    return tmp_path / "theirs"


def everything(path: Path) -> list[tuple[str, int, int]]:
    return sorted((str(at), os.lstat(at).st_mode, os.lstat(at).st_uid) for at in path.rglob("*"))


CHANGES: list[Callable[[LocalHost, str], None]] = [
    lambda host, way: host.remove_tree(f"{way}/tree"),
    lambda host, way: host.rmdir(f"{way}/empty"),
    lambda host, way: host.remove(f"{way}/file"),
    lambda host, way: host.set_mode(f"{way}/file", mode=0o666, owner=str(NOBODY), group=str(NOBODY)),
    lambda host, way: host.rename(f"{way}/file", f"{way}/other"),
]


@pytest.mark.parametrize("change", CHANGES, ids=["tree", "folder", "file", "mode", "name"])
def test_a_link_in_a_folder_of_another_user_leads_nowhere(folder: Path, change: Callable[[LocalHost, str], None]) -> None:
    precious = folder.parent / "precious"
    before = everything(precious)
    (folder / "way").symlink_to(precious)
    with pytest.raises(PathError, match="another user than root") as refused:
        change(LocalHost(), f"{folder}/way")
    assert refused.value.path == f"{folder}/way" and everything(precious) == before


@pytest.mark.parametrize("change", CHANGES, ids=["tree", "folder", "file", "mode", "name"])
def test_links_of_root_lead_on(folder: Path, change: Callable[[LocalHost, str], None]) -> None:
    precious = folder.parent / "precious"
    before = everything(precious)
    (folder.parent / "second").symlink_to("precious/../precious")
    (folder.parent / "first").symlink_to(folder.parent / "second")
    change(LocalHost(), f"{folder.parent}/first")
    assert everything(precious) != before


def test_a_link_of_root_through_a_folder_of_another_user_leads_no_further_than_there(folder: Path) -> None:
    (folder / "way").symlink_to(folder.parent / "precious")
    (folder.parent / "roots").symlink_to(folder / "way")
    with pytest.raises(PathError, match="another user than root"):
        LocalHost().remove_tree(f"{folder.parent}/roots/tree")
    (folder / "real/tree/below").mkdir(parents=True)
    (folder.parent / "good").symlink_to(folder / "real")
    LocalHost().remove_tree(f"{folder.parent}/good/tree")
    assert (folder.parent / "precious/tree/below").exists() and not (folder / "real/tree").exists()


@pytest.mark.parametrize("owner", [0, NOBODY])
def test_in_a_shared_folder_with_the_sticky_bit_the_owner_of_the_link_counts(tmp_path: Path, owner: int) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "precious/tree").mkdir(parents=True)
    (tmp_path / "shared/way").symlink_to("../precious")
    os.chown(tmp_path / "shared/way", owner, owner, follow_symlinks=False)
    with contextlib.nullcontext() if owner == 0 else pytest.raises(PathError, match="another user"):
        LocalHost().remove_tree(f"{tmp_path}/shared/way/tree")
    assert (tmp_path / "precious/tree").exists() == (owner != 0)


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(folder: Path) -> None:
    """Its user changes one for the other all the time."""
    precious, way, done = folder.parent / "precious", folder / "way", threading.Event()
    way.mkdir()
    (folder / "link").symlink_to(precious)

    def change() -> None:
        while not done.is_set():
            os.rename(way, folder / "real")
            os.rename(folder / "link", way)
            os.rename(way, folder / "link")
            os.rename(folder / "real", way)

    user = threading.Thread(target=change)
    user.start()
    try:
        for _ in range(300):
            with contextlib.suppress(PathError):
                LocalHost().remove_tree(f"{way}/tree")
            with contextlib.suppress(PathError):
                LocalHost().rmdir(f"{way}/empty")
    finally:
        done.set()
        user.join()
    assert (precious / "tree/below").exists() and (precious / "empty").exists()
