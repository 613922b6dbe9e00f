"""Locks of files as the kernel lists them."""

from __future__ import annotations

import fcntl
import os
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
