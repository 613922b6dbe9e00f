"""The terminal of a session in a VM: its raw mode and its size; termios(3)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nqrust.cli import signals
from nqrust.host.signals import handled


@contextmanager
def raw(fd: int, wanted: bool) -> Iterator[None]:
    """Set the terminal to raw mode while the block runs, if `wanted`. Every end of nqr but SIGKILL puts its mode back."""
    if not wanted:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)

    def restore() -> None:
        with suppress(termios.error):  # it may be gone
            termios.tcsetattr(fd, termios.TCSANOW, before)  # a terminal that shows nothing more must not hold nqr

    with handled([signal.SIGQUIT], signals.stop):
        signals.put_back.append(restore)
        try:
            tty.setraw(fd)
            yield
        finally:
            restore()
            with suppress(ValueError):  # a third signal took it already
                signals.put_back.remove(restore)


def size() -> tuple[int, int]:
    """Rows and columns of the terminal itself: COLUMNS and LINES of the environment know of no change."""
    for stream in (0, 1, 2):
        with suppress(OSError):
            columns, rows = os.get_terminal_size(stream)
            if columns and rows:
                return rows, columns
    return 24, 80
