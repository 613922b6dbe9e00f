"""Locks of files as the kernel lists them."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from nqrust.host import locks
from nqrust.host.local import LocalHost


def test_holder_of_a_lock_is_found_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.holders(LocalHost(), str(path)) == []
    with path.open("w") as file:
        assert locks.holders(LocalHost(), str(path)) == []
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks.holders(LocalHost(), str(path)) == [os.getpid()]
    assert locks.holders(LocalHost(), str(path)) == []


def test_a_lock_is_waited_for_and_then_done_without(tmp_path: Path) -> None:
    host, path = LocalHost(), tmp_path / "lock"
    with host.locked(str(path), 60):
        assert not path.exists(), "a file that is not there is not made"
    path.write_text("")
    with host.locked(str(path), 60):
        assert locks.holders(host, str(path)) == [os.getpid()]
        began = time.monotonic()
        with host.locked(str(path), 0.2):
            assert time.monotonic() - began >= 0.2
    assert locks.holders(host, str(path)) == []
