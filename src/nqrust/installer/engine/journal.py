"""The write-ahead journal: versioned JSON lines, appended and fsynced before the change they announce.

Record types (`v` is the format's version, `seq` counts from 1 without a gap):

    run          a run begins: verb, program version, settings (no secret), the unfinished runs it continues; `retiring` if
                 it only takes back changes that an install no longer needs
    begin        a step is about to change something: its undo records, and who owned the thing before
    done         that step is applied and verified
    failed       that step failed: code, what, cure
    undone       the entry (the `begin` with that seq) was reverted
    kept         part of the entry was left because someone changed it since; what and where
    retained     uninstall left the entry on purpose (data, database, packages)
    undo-failed  reverting the entry failed; nqr keeps the entry and tries again
    end          the run ended: outcome

nqr drops and reports a torn last line (power loss during an append): its change has not begun. nqr refuses any other damage,
or a newer version, with the cure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from nqrust.installer.engine.errors import JournalError

VERSION = 1

RECORD_TYPES = ("run", "begin", "done", "failed", "undone", "kept", "retained", "undo-failed", "end")


class JournalStore(Protocol):
    """The journal's storage. `append` returns only when the line would survive a power loss. `cramped`: it uses the space
    that is reserved for rollback. `path`: its location, for people."""

    @property
    def path(self) -> str: ...

    @property
    def cramped(self) -> bool: ...

    def read(self) -> bytes: ...

    def append(self, line: bytes) -> None: ...

    def truncate(self, size: int) -> None: ...

    def discard(self) -> None:
        """Remove the journal: nothing is left to revert."""
        ...


@dataclass(frozen=True)
class Record:
    """One line. `body` holds the fields of its type."""

    seq: int
    at: float
    type: str
    run: str
    body: dict[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """Return the line in ASCII. A file name that is not UTF-8 keeps its bytes as surrogates (PEP 383)."""
        head = {"v": VERSION, "seq": self.seq, "at": round(self.at, 3), "type": self.type, "run": self.run}
        return (json.dumps({**head, **self.body}, separators=(",", ":")) + "\n").encode()


class Journal:
    """The journal. The constructor reads it; `append` writes to the file first, then to memory. `program`: path of this host's
    newest program, for people.

    Raises JournalError NQR-ENG-010 (newer format), NQR-ENG-011 (damaged).
    """

    def __init__(self, store: JournalStore, now: Callable[[], float], *, program: str = "") -> None:
        self._store, self._now, self._program = store, now, program
        self.records: list[Record] = []
        self.torn = False
        self._load()

    def _load(self) -> None:
        data = self._store.read()
        if not data:
            return
        complete, newline, rest = data.rpartition(b"\n")
        if rest:
            self.torn = True
        for number, line in enumerate(complete.split(b"\n") if newline else [], start=1):
            self.records.append(self._parse(line, number))
        for number, record in enumerate(self.records, start=1):
            if record.seq != number:
                raise self._damaged(number)
        if self.torn:
            self._store.truncate(len(data) - len(rest))

    def require_room(self) -> None:
        """Refuse new changes once only the space for rollback is left. Raises JournalError NQR-ENG-013."""
        if self._store.cramped:
            raise no_room(os.path.dirname(self._store.path))

    def append(self, type: str, run: str, **body: Any) -> Record:
        record = Record(len(self.records) + 1, self._now(), type, run, body)
        self._store.append(record.to_line())
        self.records.append(record)
        return record

    def discard(self) -> None:
        self._store.discard()
        self.records.clear()

    def _damaged(self, number: int) -> JournalError:
        return JournalError(
            "NQR-ENG-011",
            f"Line {number} of the journal is damaged.",
            f"Restore {self._store.path} from a backup. Without it, nqr cannot tell its own changes from earlier content.",
        )

    def _parse(self, line: bytes, number: int) -> Record:
        try:
            raw = json.loads(line)
            version = raw.pop("v")
            if not isinstance(version, int):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged(number) from None
        if version > VERSION:
            raise JournalError(
                "NQR-ENG-010",
                f"A newer nqr wrote the journal in format {version}. This nqr reads format {VERSION}.",
                f"Run the newer nqr{f', which is linked from {self._program}' if self._program else ''}.",
            )
        try:
            record = Record(raw.pop("seq"), raw.pop("at"), raw.pop("type"), raw.pop("run"), raw)
        except KeyError:
            raise self._damaged(number) from None
        if record.type not in RECORD_TYPES or not isinstance(record.seq, int):
            raise self._damaged(number)
        return record


def no_room(folder: str, reason: str = "No space left on device") -> JournalError:
    return JournalError(
        "NQR-ENG-013",
        f"The journal cannot be written: {reason}, the file system is full.",
        f"Free space on the file system of {folder} and run the same command again; nothing was changed without a record.",
    )
