"""The journal on disk without space, write permission or power."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.journal_file import BALLAST, FileJournalStore


class Disk:
    """write(2) to the journal fails if more than `room` bytes are in use. An unlinked file frees its bytes."""

    def __init__(self, folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.room, self.write = folder, room, os.write
        monkeypatch.setattr(os, "write", self.limited)

    def limited(self, descriptor: int, data: bytes) -> int:
        used = sum(path.stat().st_size for path in self.folder.iterdir())
        free = self.room - used
        if free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.write(descriptor, bytes(data)[:free])


def test_journal_records_a_rollback_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_next_run_reserves_journal_space_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    FileJournalStore(str(path)).append(b'{"first":1}\n')
    (tmp_path / "state" / "ballast").unlink()
    later = FileJournalStore(str(path))
    later.append(b'{"second":1}\n')
    assert (tmp_path / "state" / "ballast").stat().st_size == BALLAST and not later.cramped


def test_journal_without_space_refuses_before_any_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_journal_drops_a_line_whose_fsync_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It may be on disk or not. A second one with its number would make the journal unreadable."""
    path = tmp_path / "state" / "journal.jsonl"
    journal = Journal(FileJournalStore(str(path)), lambda: 0.0)
    journal.append("run", "r")
    real = os.fsync
    failures = [OSError(number, os.strerror(number))]

    def fsync(descriptor: int) -> None:
        if failures and os.fstat(descriptor).st_size < BALLAST:
            raise failures.pop()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.ENOSPC:
        journal.append("begin", "r")  # by the room that is kept free
    else:
        with pytest.raises(JournalError):
            journal.append("begin", "r")
        journal.append("begin", "r")
    journal.append("done", "r")
    assert failures == []
    again = Journal(FileJournalStore(str(path)), lambda: 0.0)
    assert [(one.seq, one.type) for one in again.records] == [(1, "run"), (2, "begin"), (3, "done")] and not again.torn


def test_journal_truncates_a_failed_line_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileJournalStore(str(tmp_path / "journal.jsonl"))
    store.append(b'{"first":1}\n')

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(JournalError):
            store.append(b'{"lost":1}\n')
        with pytest.raises(JournalError):
            store.append(b'{"lost":2}\n')
    store.append(b'{"second":1}\n')
    assert store.read() == b'{"first":1}\n{"second":1}\n'


def test_a_file_name_that_is_no_utf8_is_recorded_and_read_again(tmp_path: Path) -> None:
    path, name = str(tmp_path / "journal.jsonl"), os.fsdecode(b"Schl\xfcssel.txt")
    Journal(FileJournalStore(path), lambda: 0.0).append("kept", "r", why=f"{name} and Schlüssel.txt stay")
    (record,) = Journal(FileJournalStore(path), lambda: 0.0).records
    assert record.body == {"why": f"{name} and Schlüssel.txt stay"}
