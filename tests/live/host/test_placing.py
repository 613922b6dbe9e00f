"""What root puts into a folder of another user is in that folder, whatever that user does there meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from nqrust.host import placing
from nqrust.host.placing import place_content, place_file, place_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the folder's user")

NOBODY = 65534


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another user, root's new files, and a precious folder of root."""
    for name in ("theirs", "made", "precious"):
        (tmp_path / name).mkdir()
    (tmp_path / "made/file").write_text("new")
    (tmp_path / "made/program").write_text("program")
    (tmp_path / "made/program").chmod(0o755)
    (tmp_path / "precious/file").write_text("precious")
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    return tmp_path / "theirs"


def link(theirs: Path, name: str, target: str) -> None:
    (theirs / name).symlink_to(theirs.parent / target)
    os.chown(theirs / name, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("name", ["file", ".file.nqr-new"])
def test_a_file_takes_the_place_of_a_link(theirs: Path, name: str) -> None:
    link(theirs, name, "precious/file")
    place_file(f"{theirs}/../made/file", str(theirs / "file"), mode=0o640)
    found = os.lstat(theirs / "file")
    assert (theirs / "file").read_text() == "new" and (found.st_uid, found.st_mode & 0o7777) == (0, 0o640)
    assert (theirs.parent / "precious/file").read_text() == "precious" and os.listdir(theirs) == ["file"]


def test_no_link_of_that_user_is_followed(theirs: Path) -> None:
    link(theirs, "out", "precious")
    for place in (
        lambda: place_content(b"new", f"{theirs}/out/new", mode=0o644),
        lambda: place_file(f"{theirs.parent}/made/file", f"{theirs}/out/file", mode=0o644),
        lambda: place_folder(f"{theirs.parent}/made", f"{theirs}/out/folder"),
    ):
        with pytest.raises(OSError, match="a link that another user than root may have put there"):
            place()
    assert os.listdir(theirs.parent / "precious") == ["file"]


def test_a_folder_appears_with_its_files_and_modes(theirs: Path) -> None:
    (theirs / ".out.nqr-new").mkdir()
    (theirs / ".out.nqr-new/half").write_text("of a run that was killed")
    place_folder(f"{theirs.parent}/made", str(theirs / "out"))
    assert sorted(os.listdir(theirs / "out")) == ["file", "program"] and os.listdir(theirs) == ["out"]
    modes = [os.stat(theirs / "out" / name).st_mode & 0o777 for name in ("", "file", "program")]
    assert modes == [0o755, 0o644, 0o755]


@pytest.mark.parametrize("before", [True, False], ids=["before it is opened", "while it is filled"])
def test_a_folder_that_is_swapped_leads_nowhere(theirs: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """`.out.nqr-new` is renamed, and a link to root's folder put in its place."""

    def swap() -> None:
        if not (theirs / "away").exists():
            (theirs / ".out.nqr-new").rename(theirs / "away")
            link(theirs, ".out.nqr-new", "precious")

    name = "opened" if before else "replace_in"
    real = getattr(placing, name)

    def after_swap(*args: object, **options: object) -> object:
        swap()
        return real(*args, **options)

    monkeypatch.setattr(placing, name, after_swap)
    with pytest.raises(OSError) if before else contextlib.nullcontext():
        place_folder(f"{theirs.parent}/made", str(theirs / "out"))
    assert os.listdir(theirs.parent / "precious") == ["file"]
    assert (theirs.parent / "precious/file").read_text() == "precious"
