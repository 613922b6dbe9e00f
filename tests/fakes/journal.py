"""A journal in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MemoryJournalStore:
    """A `JournalStore`. `cramped`: the file system has no room left."""

    data: bytes = b""
    cramped: bool = False
    path: str = "journal.jsonl"

    def read(self) -> bytes:
        return self.data

    def append(self, line: bytes) -> None:
        self.data += line

    def truncate(self, size: int) -> None:
        self.data = self.data[:size]

    def discard(self) -> None:
        self.data = b""
