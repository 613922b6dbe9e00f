"""One installer at a time, by flock(2). The kernel releases the lock however the holder ends, so it cannot become stale.

The file names the holder and the programs that it runs. The next holder finds there the programs of a killed one. It also
says while the holder waits for an answer, because the agent keeps the firewall rules until the holder changes something.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from nqrust.host.children import CHILDREN, Child
from nqrust.host.locks import ASKING
from nqrust.installer.engine import survivors
from nqrust.installer.engine.errors import Locked
from nqrust.installer.engine.events import NullReporter, Reporter

_LENGTH = 4096  # bytes of the file
Asking = Callable[[], AbstractContextManager[None]]


@contextmanager
def exclusive(path: str, verb: str, events: Reporter | None = None) -> Iterator[Asking]:
    """Hold the lock at `path` while the block runs. Wait first until no program of a killed holder runs any more, and report
    a long wait to `events`. Yields a context in which the holder waits for an answer and changes nothing. Raises Locked
    NQR-ENG-020, which names the holder and says whether it waits for an answer."""
    descriptor = _acquire(path)
    holder: dict[str, object] = {"pid": os.getpid(), "verb": verb, "since": time.time()}

    def note(children: tuple[Child, ...]) -> None:
        # One write of a fixed length: nobody reads half of it.
        os.pwrite(descriptor, json.dumps({**holder, "children": children}).encode().ljust(_LENGTH), 0)

    @contextmanager
    def asking() -> Iterator[None]:
        holder[ASKING] = True
        CHILDREN.tell()
        try:
            yield
        finally:
            del holder[ASKING]
            CHILDREN.tell()

    try:
        left = _left_behind(descriptor)
        note(left)  # for the next holder, in case of a SIGKILL while waiting
        survivors.wait_for(left, events or NullReporter())
        try:
            with CHILDREN.told_to(note):
                yield asking
        finally:
            # Unlink while holding the lock. A process that opened the file earlier finds another inode and retries.
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
        return ()  # a new file, or one of a version that did not record it


def _held(content: bytes) -> Locked:
    try:
        holder = json.loads(content)
        seconds = max(0, round(time.time() - holder["since"]))
        who = f"`nqr {holder['verb']}` (process {holder['pid']}, running for {seconds} s)"
        asks = holder.get(ASKING) is True
    except (ValueError, KeyError, TypeError):
        who, asks = "another nqr", False
    if asks:
        return Locked(
            "NQR-ENG-020",
            f"{who} waits for an answer at its terminal.",
            "Answer there, or end it with Ctrl-C. Then run the same command again.",
        )
    return Locked(
        "NQR-ENG-020",
        f"{who} is at work on this host.",
        "Wait for it to end, then run the same command again.",
    )
