"""Copies of files that a guest filled with holes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nqrust.host import durable
from nqrust.host.local import LocalHost


def test_a_copy_of_a_file_full_of_holes_takes_few_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest wrote each second block of its disk: a snapshot took 20 minutes, and the VM stood still."""
    monkeypatch.setattr(durable, "_FINE", 16)
    copied, really = list[int](), durable._copy_range

    def counted(source: int, target: int, start: int, end: int, keep_free: int, *, sparse: bool) -> None:
        copied.append(end - start)
        really(source, target, start, end, keep_free, sparse=sparse)

    monkeypatch.setattr(durable, "_copy_range", counted)
    disk, far = tmp_path / "disk", 64 << 20
    with disk.open("wb") as file:
        for number in range(512):
            file.seek(number * 8192)
            file.write(b"x" * 4096)
        file.seek(far)
        file.write(b"the end")
    own = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    LocalHost().copy_file(str(disk), str(tmp_path / "copy"), mode=0o600, **own)
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    assert len(copied) <= 16 + (4 << 20) // (256 << 10) + 1
    assert (tmp_path / "copy").stat().st_blocks <= disk.stat().st_blocks + 64, "and takes no more room"
