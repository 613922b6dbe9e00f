"""Handlers of signals for a while: signal(7)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals with which people, supervisors and terminals end a program."""


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handler` for these signals while the block runs, then put the earlier handlers back. Main thread only.

    A signal that this process ignores stays ignored: nohup(1) does that with SIGHUP, and a shell with SIGINT for `command &`.
    """
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
