"""A program without privileges, such as the manager, writes files of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nqrust.host.own_files import OwnFiles


def test_new_files_are_the_users_own_and_no_owner_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system call filter of the manager's unit refuses each chown(2), even to the same owner."""

    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("chown", "fchown", "lchown"):
        monkeypatch.setattr(os, name, refuse)
    host = OwnFiles()
    host.mkdir(f"{tmp_path}/folder", mode=0o700)
    host.write_file(f"{tmp_path}/folder/a", b"a", mode=0o640)
    host.copy_file(f"{tmp_path}/folder/a", f"{tmp_path}/folder/b", mode=0o600)
    host.rename(f"{tmp_path}/folder", f"{tmp_path}/other")
    found = {path.name: path.stat() for path in (tmp_path / "other", *(tmp_path / "other").iterdir())}
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(os.geteuid(), os.getegid())}
    assert {name: one.st_mode & 0o777 for name, one in found.items()} == {"other": 0o700, "a": 0o640, "b": 0o600}
