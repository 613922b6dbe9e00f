"""One installer at a time, by flock(2): released by the kernel however the holder ends, so it cannot go stale.

In the file stands who holds it, and which programs it has at work. What the next holder finds there was left by one that
was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nqrust.host.children import CHILDREN, Child
from nqrust.installer.engine import survivors
from nqrust.installer.engine.errors import Locked
from nqrust.installer.engine.events import NullReporter, Reporter

_LENGTH = 4096  # bytes of the file


@contextmanager
def exclusive(path: str, verb: str, events: Reporter | None = None) -> Iterator[None]:
    """Hold the lock at `path` while the block runs, which begins when nothing of a holder that was killed is at work any
    more; `events` are told when that takes time. Raises Locked NQR-ENG-020, which names the holder."""
    descriptor = _acquire(path)
    holder = {"pid": os.getpid(), "verb": verb, "since": time.time()}

    def note(children: tuple[Child, ...]) -> None:
        # One write of a fixed length: nobody ever reads half of it.
        os.pwrite(descriptor, json.dumps({**holder, "children": children}).encode().ljust(_LENGTH), 0)

    try:
        left = _left_behind(descriptor)
        note(left)  # for the next one, should we be killed while we wait
        survivors.wait_for(left, events or NullReporter())
        try:
            with CHILDREN.told_to(note):
                yield
        finally:
            # While still holding it; who opened it before finds another inode there and tries again.
            os.unlink(path)
    finally:
        os.close(descriptor)


def _acquire(path: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            content = os.pread(descriptor, _LENGTH, 0)
            os.close(descriptor)
            raise _held(content) from None
        os.close(descriptor)


def _left_behind(descriptor: int) -> tuple[Child, ...]:
    try:
        content = json.loads(os.pread(descriptor, _LENGTH, 0))
        return tuple(Child(int(pid), int(since)) for pid, since in content["children"])
    except (ValueError, KeyError, TypeError):
        return ()  # a new file, or one of a version that did not tell


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
