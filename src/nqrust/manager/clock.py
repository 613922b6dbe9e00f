"""The time, in one place."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> datetime:
    """Return the current time in UTC, with time zone."""
    return datetime.now(timezone.utc)
