"""How long a host may be silent before we say so. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from nqrust.contract.hosts import HostState

DEGRADED_AFTER = timedelta(seconds=30)
OFFLINE_AFTER = timedelta(minutes=5)


def host_state(last_seen_at: datetime | None, now: datetime, watching_since: datetime) -> HostState:
    """State of a host last heard of at `last_seen_at`. Silence counts only while we were there to hear: a manager
    that was down for an hour must not call every host offline at its first look."""
    silent = now - last_seen_at if last_seen_at else now - watching_since
    if silent < DEGRADED_AFTER:
        return HostState.online
    if silent < OFFLINE_AFTER or now - watching_since < DEGRADED_AFTER * 2:
        return HostState.degraded
    return HostState.offline
