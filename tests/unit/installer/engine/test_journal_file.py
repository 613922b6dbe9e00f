"""The journal on disk when there is no room, no right to write, or no power."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.journal_file import BALLAST, FileJournalStore


class Disk:
    """write(2) to the journal fails once more than `room` bytes are in use; what is unlinked gives room."""

    def __init__(self, folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.room, self.write = folder, room, os.write
        monkeypatch.setattr(os, "write", self.limited)

    def limited(self, descriptor: int, data: bytes) -> int:
        used = sum(path.stat().st_size for path in self.folder.iterdir())
        free = self.room - used
        if free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.write(descriptor, bytes(data)[:free])


def test_a_full_disk_still_takes_the_records_of_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileJournalStore(str(tmp_path / "state" / "journal.jsonl"))
    store.append(b'{"first":1}\n')
    assert (tmp_path / "state" / "ballast").stat().st_size == BALLAST
    disk = Disk(tmp_path / "state", BALLAST + 15, monkeypatch)
    store.append(b'{"undone":1}\n')
    assert store.read() == b'{"first":1}\n{"undone":1}\n'
    assert not (tmp_path / "state" / "ballast").exists()
    assert store.cramped, "what is left is not for going on"
    disk.room = 30
    with pytest.raises(JournalError) as told:
        store.append(b'{"undone":2}\n')
    assert told.value.code == "NQR-ENG-013" and "full" in told.value.what and "Free space" in told.value.cure
    assert store.read() == b'{"first":1}\n{"undone":1}\n', "no half line is left"


def test_the_next_run_keeps_room_free_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    FileJournalStore(str(path)).append(b'{"first":1}\n')
    (tmp_path / "state" / "ballast").unlink()
    later = FileJournalStore(str(path))
    later.append(b'{"second":1}\n')
    assert (tmp_path / "state" / "ballast").stat().st_size == BALLAST and not later.cramped


def test_no_room_at_all_is_told_before_anything_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    Disk(tmp_path / "state", 1000, monkeypatch)
    store = FileJournalStore(str(tmp_path / "state" / "journal.jsonl"))
    with pytest.raises(JournalError):
        store.append(b'{"first":1}\n')
    assert list((tmp_path / "state").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    store = FileJournalStore(str(tmp_path / "state" / "journal.jsonl"))
    with pytest.raises(JournalError) as told:
        store.append(b"{}\n")
    assert told.value.code == "NQR-ENG-013" and "writable" in told.value.cure
