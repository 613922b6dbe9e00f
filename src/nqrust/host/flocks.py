"""Locks that programs agree on, flock(2)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

_PAUSE = 0.02  # seconds


class Flocks:
    @contextlib.contextmanager
    def locked(self, path: str, timeout: float) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                held.callback(os.close, descriptor)
                _take(descriptor, time.monotonic() + timeout)
            yield


def _take(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
        time.sleep(_PAUSE)
