"""The signals that end nqr: SIGINT, SIGTERM and SIGHUP, from its first import to its last line.

A signal waits while modules load. An import that breaks off would leave half a module behind, and the report of the signal needs
modules, too. Then the signal raises `Stopped` in the command. Once a command winds up, further signals only count, up to
`_PATIENCE`. Operations that change the host, and sessions in guests, have their own handlers for a while: `host.signals`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from nqrust.host.signals import ENDING, handled

_PATIENCE = 3
"""Signals after which nqr leaves at once, without a report."""
_AGAIN = 0.005
"""Seconds until a signal that came at a bad moment comes again."""
_CODE = 130


class Stopped(BaseException):
    """A signal arrived before the first change, or during a wait."""


class _State:
    first = 0
    """Number of the first signal, 0 before one arrives."""
    count = 0
    raised = False


put_back: list[Callable[[], None]] = []
"""Functions that put things back before nqr ends, such as the mode of a terminal."""


def begin() -> None:
    """Keep signals for `raising`, from the start of the program."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _keep)


def end() -> None:
    """Let signals end the process: everything is said, and Python itself would show a traceback."""
    for number in ENDING:
        if signal.getsignal(number) is _keep:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def raising() -> Iterator[None]:
    """Raise Stopped for a signal while the block runs, or for one that came since `begin`."""
    hook = sys.unraisablehook

    def dropped(it: Any) -> None:
        """Python drops what a handler raises in a finalizer, and would show its traceback."""
        if isinstance(it.exc_value, Stopped):
            _State.raised = False
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            hook(it)

    with handled(ENDING, stop), handled([signal.SIGALRM], _again):
        sys.unraisablehook = dropped
        try:
            if _State.first:
                _State.count -= 1
                signal.raise_signal(_State.first)
            yield
        finally:
            sys.unraisablehook = hook
            signal.setitimer(signal.ITIMER_REAL, 0)
            _State.first, _State.count, _State.raised = 0, 0, False
            _put_all_back()


def check() -> None:
    """Raise Stopped if a signal waits. For the moment before a command acts: its modules may have loaded all the time until then."""
    if _State.first and not _State.raised:
        _State.raised = True
        raise Stopped(signal.Signals(_State.first).name)


def stop(number: int, frame: FrameType | None) -> None:
    """Raise Stopped where that does no harm, otherwise soon. A handler of signals."""
    _count(number)
    if _State.raised:
        return
    if _imports(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    _State.raised = True
    raise Stopped(signal.Signals(_State.first).name)


def _keep(number: int, frame: FrameType | None) -> None:
    _count(number)


def _count(number: int) -> None:
    _State.first = _State.first or number
    _State.count += 1
    if _State.count >= _PATIENCE:
        _put_all_back()
        os._exit(_CODE)


def _again(number: int, frame: FrameType | None) -> None:
    """Send the first signal again, to the handler of this moment."""
    if _State.first:
        _State.count -= 1
        signal.raise_signal(_State.first)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _put_all_back() -> None:
    while put_back:
        with suppress(Exception):
            put_back.pop()()
