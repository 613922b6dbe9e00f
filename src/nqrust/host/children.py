"""Running programs that this process has started.

Each program heads its own session (setsid(2)). Its own children belong to that session, except daemons, which start a new one.
A list that outlives this process therefore finds what a killed one left running, except a program started in the last
millisecond.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

Listener = Callable[[tuple["Child", ...]], None]


class Child(NamedTuple):
    """`since`: start time in clock ticks after the boot (proc_pid_stat(5), field 22). A reused number has a different one."""

    pid: int
    since: int


@dataclass(frozen=True)
class _Process:
    state: str
    session: int
    since: int


class Children:
    """Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[int, Child] = {}
        self._listener: Listener | None = None

    def started(self, pid: int) -> None:
        found = _process(pid)
        if found is not None:
            self._change(pid, Child(pid, found.since))

    def ended(self, pid: int) -> None:
        self._change(pid, None)

    @contextlib.contextmanager
    def told_to(self, listener: Listener) -> Iterator[None]:
        """Pass the whole list to `listener` on every change, until the block ends."""
        with self._lock:
            self._listener = listener
        try:
            yield
        finally:
            with self._lock:
                self._listener = None

    def tell(self) -> None:
        """Pass the list to the listener again."""
        with self._lock:
            if self._listener is not None:
                self._listener(tuple(self._now.values()))

    def _change(self, pid: int, child: Child | None) -> None:
        with self._lock:
            if child is not None:
                self._now[pid] = child
            elif self._now.pop(pid, None) is None:
                return
            if self._listener is not None:
                self._listener(tuple(self._now.values()))


CHILDREN = Children()
"""Of this process."""


def this_process() -> Child:
    pid = os.getpid()
    found = _process(pid)
    return Child(pid, found.since if found else 0)


def lives(child: Child) -> bool:
    """Return whether it is still that process, and not a zombie."""
    found = _process(child.pid)
    return found is not None and found.since == child.since and found.state != "Z"


def at_work(child: Child) -> list[int]:
    """Return process numbers of its session; empty once all have ended."""
    if child.pid < 1:  # 0 is the session of kernel threads, and of processes whose leader is outside this PID namespace
        return []
    leader = _process(child.pid)
    if leader is not None and leader.since != child.since:
        return []
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if (found := _process(pid)) is not None and found.session == child.pid and found.state != "Z"]


def has_ended(pid: int) -> bool:
    """Return whether a child of this process has ended. It is left to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # from field 3 on: the name may have spaces and brackets
    except OSError:
        return None
    return _Process(fields[0], int(fields[3]), int(fields[19]))
