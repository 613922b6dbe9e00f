"""Signals set a flag, which the engine checks between steps. A running step is always finished or undone, never torn.

The first SIGINT, SIGTERM or SIGHUP sets the flag; later signals change nothing. Python lets only the main thread handle
signals. A run in another thread gets them through `Interruption.arrive`, from whoever owns the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from nqrust.host.signals import ENDING, handled
from nqrust.installer.engine.errors import Interrupted, NqrError, StepFailed


@dataclass
class Interruption:
    """The signal flag. `signal`: number of the first signal, 0 before one arrives. `notice`: called once, with its name."""

    signal: int = 0
    notice: Callable[[str], None] = field(default=lambda name: None, compare=False, repr=False)

    def arrive(self, number: int) -> None:
        """Set the flag for the first signal. Safe in any thread."""
        if not self.signal:
            self.signal = number
            self.notice(self.name)

    @property
    def came(self) -> bool:
        """Whether a signal has arrived. A step that waits for people ends its wait then."""
        return bool(self.signal)

    @property
    def name(self) -> str:
        """Name of the first signal, "" before one arrives."""
        return signal.Signals(self.signal).name if self.signal else ""

    def check(self) -> None:
        """Raise Interrupted NQR-ENG-030 after a signal."""
        if self.signal:
            raise Interrupted("NQR-ENG-030", f"Stopped by {self.name}.", "Run the same command again when you are ready.")

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
    """Watch the three signals while the block runs. Calls `notice` once, with the signal's name. `state`: the flag to set, if
    others hold it already. Outside of the main thread, only `state.arrive` sets it."""
    state = Interruption() if state is None else state
    state.notice = notice

    def handle(number: int, frame: FrameType | None) -> None:
        state.arrive(number)

    here = threading.current_thread() is threading.main_thread()
    with handled(ENDING if here else (), handle):
        yield state
