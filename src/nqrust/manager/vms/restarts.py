"""Decides whether and when an ended VM restarts. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from nqrust.contract.agent import DISK_LOST, VmStatus
from nqrust.contract.vms import RestartPolicy

STEADY_AFTER = timedelta(minutes=10)
"""A VM that ran this long has recovered: its next failure counts as the first."""
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)

WITHOUT_DISK = f"Its disk is not on its host. Mount the file system of the host's data folder: the VM then starts. {DISK_LOST}"


def comes_back(policy: RestartPolicy, status: VmStatus | None) -> bool:
    """Return whether it restarts. `status`: how it ended; None: its host does not know it."""
    off = status is not None and status.powered_off
    return policy is RestartPolicy.always or (policy is RestartPolicy.on_failure and not off)


def pause(restarts: int, started_at: datetime | None, now: datetime) -> timedelta:
    """Return the pause before a restart: 0 the first time; then 5 s, doubling up to 5 min, until it has run for ten minutes."""
    if restarts == 0 or (started_at is not None and now - started_at > STEADY_AFTER):
        return timedelta(0)
    return min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(restarts - 1, 10)))
