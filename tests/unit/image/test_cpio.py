"""The initramfs archive: cpio(1) reads back the same files."""

from __future__ import annotations

from nqrust.image import cpio


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = [cpio.directory("dev"), cpio.character_device("dev/console", 5, 1)]
    first = cpio.archive(entries)
    assert first == cpio.archive(entries)
    assert len(first) % 512 == 0 and b"TRAILER!!!" in first
