"""`nqr vm cp` by root in a folder of another user, who can put a link there at any time."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from tests.unit.cli.test_archive import member, tar

from nqrust.cli.vm import archive

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the folder's user")

ALICE = 54321


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/secret").write_text("of root")
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", ALICE, ALICE)
    tmp_path.chmod(0o755)
    return tmp_path / "home"


def sent(source: str) -> dict[str, bytes]:
    made = io.BytesIO()
    archive.write(made, source, "top", lambda name: None)
    made.seek(0)
    with tarfile.open(fileobj=made) as found:
        return {one.name: file.read() if (file := found.extractfile(one)) else b"" for one in found if not one.issym()}


def test_a_copy_to_root_leads_to_no_folder_behind_another_users_link(home: Path) -> None:
    (home / "out").symlink_to(home.parent / "roots")
    content = tar(member("top", content=b"* * * * * root id"))
    with pytest.raises(OSError, match="another user"):
        archive.read(content, str(home / "out"), "job", lambda name: None)
    assert os.listdir(home.parent / "roots") == ["secret"]


def test_a_copy_from_root_takes_no_file_behind_another_users_link(home: Path) -> None:
    (home / "file").symlink_to(home.parent / "roots/secret")
    (home / "way").symlink_to(home.parent / "roots")
    for source in ("file", "way", "way/secret"):
        with pytest.raises(OSError, match="another user"):
            sent(str(home / source))
    assert sent(str(home)) == {"top": b""}, "links below are copied as links"


def test_a_file_that_becomes_a_link_meanwhile_is_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("of alice")
    swapped, stat = [False], os.stat

    def then_swapped(path: object, **how: object) -> os.stat_result:
        found = stat(path, **how)  # type: ignore[call-overload]
        if path == "file" and not swapped[0]:
            swapped[0] = True
            (home / "file").unlink()
            (home / "file").symlink_to(home.parent / "roots/secret")
        return found  # type: ignore[no-any-return]

    monkeypatch.setattr(os, "stat", then_swapped)
    with pytest.raises(OSError):
        sent(str(home))
    assert swapped[0]


def test_root_follows_its_own_links(home: Path) -> None:
    (home.parent / "link").symlink_to("roots/secret")
    assert sent(str(home.parent / "link")) == {"top": b"of root"}
    (home.parent / "folder").symlink_to("roots")
    archive.read(tar(member("top", content=b"x")), str(home.parent / "folder"), "new", lambda name: None)
    assert (home.parent / "roots/new").read_bytes() == b"x"
