"""Lines of the log that anybody can cause without signing in.

uvicorn writes one for each request that is none. NiceGUI logs what a page asks it to, and each unknown address.
"""

from __future__ import annotations

import logging
import time

from nqrust.contract.text import plain

AT_ONCE, SECONDS = 50, 10.0
"""Lines at once, and seconds until one more."""
LONGEST = 1000
"""Characters of a line."""


class Bounded(logging.Filter):
    """Lets few lines through, short and without control characters. A flood leaves the earlier lines of the host's log there."""

    def __init__(self) -> None:
        super().__init__()
        self._left, self._at = float(AT_ONCE), time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        self._left, self._at = min(float(AT_ONCE), self._left + (now - self._at) / SECONDS), now
        if self._left < 1:
            return False
        self._left -= 1
        record.msg, record.args = plain(record.getMessage()[:LONGEST]), ()
        return True


def bound(*more: str) -> None:
    """Bound the lines of the server, and of other loggers."""
    for name in ("uvicorn.error", "asyncio", *more):
        logger = logging.getLogger(name)
        if not any(isinstance(one, Bounded) for one in logger.filters):
            logger.addFilter(Bounded())
