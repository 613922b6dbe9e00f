"""Work beside other work: a VM starts sooner if what does not depend on its VMM is done while the VMM starts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_AGAIN = 0.05  # seconds


class _Work:
    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="aside")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def ended(self, seconds: float | None = None) -> bool:
        """Wait for its end, or `seconds`. Return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def done(self) -> None:
        """Wait for its end. Raises what it raised."""
        self.ended()
        if self._error is not None:
            raise self._error


@contextlib.contextmanager
def aside(work: Callable[[], object], stop: Callable[[], object] = lambda: None) -> Iterator[Callable[[], None]]:
    """Run `work` beside the block. The function that this yields waits for it, and raises what it raised.

    The block is left when both are done, so that no work outlives its verb. An error of the block comes first. `stop` is called
    after such an error until the work has ended: it may start its next program at any time.
    """
    running = _Work(work)
    try:
        yield running.done
    except BaseException:
        while not running.ended(0):
            stop()
            running.ended(_AGAIN)
        raise
    finally:
        running.ended()
