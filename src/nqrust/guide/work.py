"""Work beside the screens. A thread runs it, and the screen asks for its end, so that no key waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Work(Generic[T]):
    """A function that runs in its own thread. `must_end`: the program waits for it before it exits. Otherwise, leaving the
    program ends it, so only work that reads is left like that."""

    def __init__(self, function: Callable[[], T], *, must_end: bool = False) -> None:
        self._function = function
        self._result: T | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=not must_end)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except Exception as error:  # the screen, or the program after it, shows it
            self.error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    @property
    def result(self) -> T:
        """Return the result. Raises the error of the function."""
        if self.error is not None:
            raise self.error
        assert self._result is not None
        return self._result
