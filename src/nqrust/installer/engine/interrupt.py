"""Signals set a flag, which the engine checks between steps. A running step is always finished or undone, never torn.

The first SIGINT, SIGTERM or SIGHUP sets the flag; later signals change nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from nqrust.host.signals import ENDING, handled
from nqrust.installer.engine.errors import Interrupted, NqrError, StepFailed


@dataclass
class Interruption:
    """The signal flag. `signal`: number of the first signal, 0 before one arrives."""

    signal: int = 0

    @property
    def came(self) -> bool:
        """Whether a signal has arrived. A step that waits for people ends its wait then."""
        return bool(self.signal)

    def check(self) -> None:
        """Raise Interrupted NQR-ENG-030 after a signal."""
        if self.signal:
            name = signal.Signals(self.signal).name
            raise Interrupted("NQR-ENG-030", f"Stopped by {name}.", "Run the same command again when you are ready.")

    def instead_of(self, failure: NqrError) -> NqrError:
        """Return Interrupted for a step that failed after a signal: programs of the step may have got the same signal."""
        if not isinstance(failure, StepFailed):
            return failure
        try:
            self.check()
        except Interrupted as stopped:
            return stopped
        return failure


@contextmanager
def watching(notice: Callable[[str], None], state: Interruption | None = None) -> Iterator[Interruption]:
    """Watch the three signals while the block runs (main thread only). Calls `notice` once, with the signal's name. `state`: the
    flag to set, if others hold it already."""
    state = Interruption() if state is None else state

    def handle(number: int, frame: FrameType | None) -> None:
        if not state.signal:
            state.signal = number
            notice(signal.Signals(number).name)

    with handled(ENDING, handle):
        yield state
