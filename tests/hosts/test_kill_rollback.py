"""SIGKILL at every journal record of a production install, each time on a fresh host, and then `nqr rollback`: the host is the one it
was. Its counterpart, going on from every record, is in `test_kill_matrix.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.hosts import killing
from tests.hosts.prepared import Bench, prepared_host

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(4 * 3600)]

STRIDE = int(os.environ.get("NQR_KILL_STRIDE", "1"))
"""Every n-th point only, for a quick look; any number that 3 does not divide meets every kind of point."""
FIRST = int(os.environ.get("NQR_KILL_FIRST", "1"))
"""The record to begin with."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with prepared_host("production") as prepared:
        yield prepared


def points(bench: Bench) -> list[tuple[str, int]]:
    """Where a run can be cut off, by the journal of one that was not: begun and not applied, applied and not written down,
    done. (Before a `begin` is the same as after the `done` before it.)"""
    result = bench.run()
    assert result.code == 0, result.describe()
    found = []
    for number, record in enumerate(killing.journal(bench.host), start=1):
        if record["type"] == "done":
            found.append(("BEFORE", number))
        found.append(("AFTER", number))
    return found


def test_install_killed_at_any_record_rolls_back(bench: Bench) -> None:
    began = time.monotonic()
    wrong: list[str] = []
    never = 0
    chosen = [(mode, number) for mode, number in points(bench) if number >= FIRST][::STRIDE]
    for mode, number in chosen:
        killing.restore(bench.host, bench.ready)
        result = bench.run(env={f"NQR_CRASH_{mode}_APPEND": str(number)})
        records = killing.journal(bench.host) or [{"type": "nothing"}]
        if result.code == 0 and len(records) < number:
            never += 1  # a service that is up at once is not waited for: a step less, and no such record
            continue
        last = records[-1]
        said = f"{mode} {number} ({last['type']} {last.get('step', {}).get('id', '')})"
        if result.code not in (killing.KILLED, 137):
            wrong.append(f"{said} was not killed: {result.describe()}")
            continue
        back = bench.rollback()
        left = bench.difference()
        if back.code != 0 or left:
            wrong.append(f"{said}: {back.describe()}\n{left}")
        print(f"{said}: {'wrong' if back.code or left else 'as before'}", flush=True)
    kills = len(chosen) - never
    print(f"rollback: {kills} kills, {kills - len(wrong)} went back, in {time.monotonic() - began:.0f} s")
    assert not wrong, "\n\n".join(wrong)
    assert kills > 0 and never <= 6, f"{never} of {len(chosen)} records were not written"
