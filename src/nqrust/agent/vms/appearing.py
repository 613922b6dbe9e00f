"""Waits until a VMM that was started is there."""

from __future__ import annotations

import time
from collections.abc import Callable

from nqrust.agent.errors import Failed
from nqrust.agent.scopes.port import Scopes, exit_status
from nqrust.agent.store import VmRecord
from nqrust.agent.vmm.port import Vmm
from nqrust.host.port import Host

LONGEST = 10.0  # seconds until a VMM appears in its scope
_LOOK = 0.1  # seconds between two readings of /proc for a VMM whose socket is not there yet
_PAUSE = 0.001


def wait(host: Host, scopes: Scopes, record: VmRecord, driver: Vmm, directory: str, last_line: Callable[[str], str]) -> int:
    """Wait for the VMM of `record` in its scope, and return its process.

    A reading of /proc takes milliseconds, so a cheaper sign comes first. Raises Failed, with the last line of the console, if
    the VMM ended or did not come.
    """
    deadline = time.monotonic() + LONGEST
    while True:
        ended, look = host.exists(exit_status(directory)), time.monotonic() + _LOOK
        while not ended and not driver.appeared(directory) and time.monotonic() < look:
            time.sleep(_PAUSE)
            ended = host.exists(exit_status(directory))
        scope = scopes.seen(record.id) or scopes.get(record.id)
        if scope is not None and scope.vmm:
            return scope.vmm[0].pid
        if ended or time.monotonic() > deadline:
            raise Failed(
                "NQR-VMM-102",
                f"The VMM of {record.name} did not start: {last_line(record.id)}",
                f"Read {directory}/console.log.",
            )
        time.sleep(_PAUSE)
