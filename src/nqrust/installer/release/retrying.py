"""When a download is tried again, and after how long (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState, Retrying

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may serve the same request later."""
LONGEST = 60.0
"""Seconds that one wait lasts at most, whatever the server asks for."""


class Again(Exception):
    """This attempt failed and another may succeed. `after`: seconds that the server asked to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


def retrying(attempts: int, pause: float, sleep: Callable[[float], None] = time.sleep) -> Retrying:
    """Return the loop over attempts. It repeats on Again, and raises the last one. `pause`: seconds before the second attempt,
    doubled before each further one, with some jitter."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

    grows = wait_exponential_jitter(multiplier=pause, max=LONGEST, jitter=pause / 2)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, Again) else None
        return min(LONGEST, grows(state) if asked is None else asked)

    return Retrying(stop=stop_after_attempt(attempts), wait=wait, retry=retry_if_exception_type(Again), sleep=sleep, reraise=True)


def retry_after(headers: httpx.Headers, now: float) -> float | None:
    """Return the seconds in Retry-After, which holds a number or a date. None if it is missing or unreadable."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return max(0.0, (at - datetime.fromtimestamp(now, timezone.utc)).total_seconds())
