"""Liveness of hosts, from the time of their last heartbeat. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from nqrust.contract.hosts import HostState

DEGRADED_AFTER = timedelta(seconds=30)
OFFLINE_AFTER = timedelta(minutes=5)


def host_state(last_seen_at: datetime | None, now: datetime, watching_since: datetime) -> HostState:
    """Return the state of a host last seen at `last_seen_at`.

    Silence counts only while the manager runs: after an hour of downtime it must not call every host offline. A time in the
    future is of a clock that was ahead: the host is degraded until its next heartbeat.
    """
    silent, watched = now - (last_seen_at or watching_since), now - watching_since
    if abs(silent) < DEGRADED_AFTER:
        return HostState.online
    if silent < OFFLINE_AFTER or timedelta(0) <= watched < DEGRADED_AFTER * 2:
        return HostState.degraded
    return HostState.offline
