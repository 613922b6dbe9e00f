"""SIGKILL at every journal record of a production install and of its uninstall."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import killing, product
from tests.hosts.killing import INSTALL, PURGE, UNINSTALL
from tests.hosts.machine import Fingerprint, Machine, Snapshot

UNITS = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent", "nqrust-ui")
PRODUCTION = (INSTALL, "--mode", "production", "--non-interactive")

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(7200)]


@dataclass
class Bench:
    """A host with the bootstrap's environment in place, and what an uninterrupted install made of it."""

    host: Machine
    pristine: Fingerprint
    start: Snapshot
    whole: Fingerprint
    installed: Snapshot


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Machine() as host:
        product.clone(host)
        host.run([INSTALL, "--mode", "production", "--dry-run", "--non-interactive"], timeout=900)
        killing.plain_devices(host)
        pristine = host.fingerprint()
        start = host.snapshot()
        host.run(PRODUCTION, timeout=900)
        whole = killing.settled(host)
        yield Bench(host, pristine, start, whole, host.snapshot())


def test_install_killed_at_any_record_recovers(bench: Bench) -> None:
    """Install: after each `begin`, between apply and `done`, after each `done`; every run resumes what was cut off. In
    the end the host is the one that an uninterrupted install makes."""
    host = bench.host
    killing.restore(host, bench.start)
    began = time.monotonic()
    chain = killing.run_killed(host, PRODUCTION, killing.every_record())
    assert chain.last is not None
    print(f"install: {len(chain.points)} kills in {time.monotonic() - began:.0f} s: {chain.figures()}")
    assert "\n".join(bench.whole.diff(killing.settled(host))) == "", chain.last.describe()
    killing.working(host, UNITS)
    steps = {r["step"]["id"] for r in killing.journal(host) if r["type"] == "begin"}
    begun = {p.subject for p in chain.points if p.mode == "after" and p.last == "begin"}
    applied = {p.subject for p in chain.points if p.mode == "before" and p.last == "begin"}
    assert steps - begun == set() and len(steps - applied) <= 2, (steps - begun, steps - applied)


def test_uninstall_killed_at_any_record_completes(bench: Bench) -> None:
    """Kill the uninstall between each undo and its record, and after each record. Nothing is left at the end."""
    host = bench.host
    host.restore(bench.installed)
    steps = {r["step"]["id"] for r in killing.journal(host) if r["type"] == "begin"}
    began = time.monotonic()
    chain = killing.run_killed(host, (UNINSTALL, *PURGE), killing.undo_records())
    print(f"uninstall: {len(chain.points)} kills in {time.monotonic() - began:.0f} s: {chain.figures()}")
    assert len(chain.points) >= len(steps)
    assert "\n".join(bench.pristine.diff(host.fingerprint())) == ""
    for path in (product.CACHE, "/var/lib/nqrust-microvm", "/var/log/nqrust-install"):
        assert not host.exists(path), path
