"""Programs that a killed installer started and that still run. Before a later run repeats or reverts their work, it waits for
them to end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from nqrust.host.children import Child, at_work
from nqrust.installer.engine.events import Notice, Reporter

LIMIT = 600.0
"""Seconds after which nqr ends a survivor."""
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL


def wait_for(children: Sequence[Child], events: Reporter, limit: float = LIMIT) -> None:
    """Wait until no program of `children` runs; end them after `limit` seconds."""
    pids = _all(children)
    if pids:
        what = f"Waiting for process {pids[0]} ({_name(pids[0])}), which an interrupted nqr left running."
        events.emit(Notice("info", what))
    for number, seconds in ((0, limit), (signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        for pid in _all(children) if number else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while _all(children):
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        else:
            return


def _all(children: Sequence[Child]) -> list[int]:
    return [pid for child in children for pid in at_work(child)]


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "gone by now"
