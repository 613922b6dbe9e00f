"""Journals outlive the program that wrote them. nqr reads old ones forever, and refuses newer and damaged ones."""

from __future__ import annotations

import pytest
from tests.fakes.journal import MemoryJournalStore
from tests.places import GOLDEN

from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.journal import RECORD_TYPES, Journal
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.registry import VERBS

OLD = (GOLDEN / "journal/v1.jsonl").read_bytes()


def opened(data: bytes) -> Journal:
    return Journal(MemoryJournalStore(data), lambda: 0.0)


def test_first_journal_format_is_read_correctly() -> None:
    journal = opened(OLD)
    assert {record.type for record in journal.records} == set(RECORD_TYPES)
    receipt = Receipt.of(journal)
    by_id = {entry.step_id: entry for entry in receipt.entries}
    assert "vms" not in by_id and "file:/etc/x" not in by_id  # undone
    assert by_id["database:nexus"].retained and by_id["database:nexus"].retain is Retain.database
    assert by_id["dir:/srv/fc"].retain is Retain.data
    assert by_id["link:fcbr0"].undo_error == "busy"
    assert by_id["packages:platform"].undo[0].args["made"] == "d" * 64
    assert receipt.last_settings == {"mode": "production"}
    assert [run.outcome for run in receipt.runs] == ["failed", ""]


def test_old_journal_holds_every_current_verb_and_no_unknown_one() -> None:
    used = {undo["verb"] for record in opened(OLD).records for undo in record.body.get("undo", [])}
    assert used == set(VERBS), "a new verb needs a line in tests/golden/journal; an old one must stay"


def test_every_undo_verb_can_be_foreseen() -> None:
    undos = [undo for entry in Receipt.of(opened(OLD)).entries for undo in entry.undo]
    told = VERBS.told(undos)
    assert len(told) == len(undos) and all(told) and not [line for line in told if "cannot be foreseen" in line]


def test_a_newer_format_is_refused_with_the_cure() -> None:
    with pytest.raises(JournalError) as caught:
        opened(OLD + b'{"v":2,"something":"else"}\n')
    assert caught.value.code == "NQR-ENG-010" and "newer" in caught.value.cure


def test_cures_name_the_places_of_who_opened_the_journal() -> None:
    newer = MemoryJournalStore(OLD + b'{"v":2}\n')
    with pytest.raises(JournalError) as caught:
        Journal(newer, lambda: 0.0, program="/opt/there/program")
    assert "/opt/there/program" in caught.value.cure
    with pytest.raises(JournalError) as caught:
        Journal(MemoryJournalStore(b"{}\n", path="/var/lib/there/journal"), lambda: 0.0)
    assert "/var/lib/there/journal" in caught.value.cure
    full = MemoryJournalStore(OLD, cramped=True, path="/var/lib/there/journal")
    with pytest.raises(JournalError) as caught:
        Journal(full, lambda: 0.0).require_room()
    assert "/var/lib/there " in caught.value.cure


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_dropped_and_told(cut: int) -> None:
    store = MemoryJournalStore(OLD[:-cut])
    journal = Journal(store, lambda: 0.0)
    assert journal.torn and len(journal.records) == OLD[:-cut].count(b"\n")
    assert store.data.endswith(b"\n") and not Journal(store, lambda: 0.0).torn
    journal.append("end", "ba9876543210", outcome="ok")
    assert len(opened(store.data).records) == len(journal.records)


@pytest.mark.parametrize("line", [b"\0\0\0\0", b"{}", b'{"v":1,"seq":2,"at":1,"type":"new","run":"x"}', b""])
def test_damage_in_the_middle_is_refused(line: bytes) -> None:
    lines = OLD.split(b"\n")
    with pytest.raises(JournalError) as caught:
        opened(b"\n".join([*lines[:3], line, *lines[4:]]))
    assert caught.value.code == "NQR-ENG-011" and "backup" in caught.value.cure


def test_a_missing_line_is_damage() -> None:
    lines = OLD.split(b"\n")
    with pytest.raises(JournalError):
        opened(b"\n".join([*lines[:5], *lines[6:]]))
