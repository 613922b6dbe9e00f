"""One installer at a time, by flock(2): released by the kernel however the holder ends, so it cannot go stale."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.installer.engine.errors import Locked


@contextmanager
def exclusive(path: str, verb: str) -> Iterator[None]:
    """Hold the lock at `path` while the block runs. Raises Locked NQR-ENG-020, which names the holder."""
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, json.dumps({"pid": os.getpid(), "verb": verb, "since": time.time()}).encode(), 0
        )
        yield
    finally:
        os.unlink(
            path
        )  # while still holding it; who opened it before finds another inode there and tries again
        os.close(descriptor)


def _acquire(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            content = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise _held(content) from None
        os.close(descriptor)


def _held(content: bytes) -> Locked:
    try:
        holder = json.loads(content)
        seconds = max(0, round(time.time() - holder["since"]))
        who = f"`nqr {holder['verb']}` (process {holder['pid']}, running for {seconds} s)"
    except (ValueError, KeyError, TypeError):
        who = "another nqr"
    return Locked(
        "NQR-ENG-020",
        f"{who} is at work on this host.",
        "Wait for it to end, then run the same command again.",
    )
