"""A production install that loses all its processes at a random moment, maintainer scripts of packages included.

Then either an uninstall, after which the host is the one from before, or the same command again, after which it is the one
that an uninterrupted install makes. Half of the kills fall into the package transaction, every fifth into the bootstrap;
every third is a power cut. Every other uninstall has a build of the release before it, during which a kill can come; the
other installs take the release from the cache of an earlier run. NQR_KILL_SEED repeats the moments of an earlier run; the first of each kind runs always.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.hosts import killing, product, warm
from tests.hosts.killing import INSTALL, PURGE, UNINSTALL
from tests.hosts.machine import Fingerprint, Machine, Snapshot
from tests.hosts.machine.base import PACKAGES

pytestmark = pytest.mark.timeout(3600)

SEED = int(os.environ.get("NQR_KILL_SEED") or time.time())
KILLS = 40
PRODUCTION = (INSTALL, "--mode", "production", "--non-interactive")
NUMBERS = [pytest.param(number, marks=() if number == 0 else pytest.mark.matrix) for number in range(KILLS)]


@dataclass
class Bench:
    """A machine as clouds give them out: without sudo, root's password locked, and without /etc/hosts, which a package
    that is brought along writes. `bootstrap`, `whole`: seconds of both; `packages`: when that transaction begins and ends."""

    host: Machine
    pristine: Fingerprint
    fresh: Snapshot
    prepared: Snapshot
    installed: Fingerprint
    bootstrap: float
    whole: float
    packages: tuple[float, float]


@contextmanager
def _host(*, release: bool) -> Iterator[Bench]:
    """`release`: whether it is in the installer's cache, if the tests have one."""
    with Machine(packages=tuple(name for name in PACKAGES if name != "sudo")) as host:
        product.clone(host)
        host.run("rm /etc/hosts")
        killing.plain_devices(host)
        pristine = host.fingerprint()
        if release:
            warm.fill(host, environment=False)
        fresh = host.snapshot()
        bootstrap = host.run([*PRODUCTION, "--dry-run"], timeout=900).seconds
        prepared = host.snapshot()
        killing.plain_devices(host)
        began = time.time()
        host.run(PRODUCTION, timeout=900)
        whole = time.time() - began
        moments = {r["type"]: r["at"] - began for r in _of_packages(host)}
        yield Bench(host, pristine, fresh, prepared, killing.settled(host), bootstrap, whole, (moments["begin"], moments["done"]))


@pytest.fixture(scope="module")
def warmed() -> Iterator[Bench]:
    with _host(release=True) as made:
        yield made


@pytest.fixture(scope="module")
def cold() -> Iterator[Bench]:
    with _host(release=False) as made:
        yield made


def _of_packages(host: Machine) -> list[dict[str, object]]:
    begun = next(r for r in killing.journal(host) if r["type"] == "begin" and r["step"]["kind"] == "packages")
    return [begun, next(r for r in killing.journal(host) if r["type"] == "done" and r["entry"] == begun["seq"])]


def _killed(bench: Bench, then: str, number: int) -> str:
    """An install, killed. What was hit, for the log and for assertions."""
    host, chance = bench.host, random.Random(f"{SEED} {then} {number}")
    in_bootstrap = number % 5 == 4
    if in_bootstrap:
        first, last = 0.0, bench.bootstrap
    else:
        first, last = bench.packages if number % 2 == 0 else (0.0, bench.whole)
    moment = chance.uniform(first, last)
    share, whole = moment, bench.bootstrap if in_bootstrap else bench.whole
    while True:
        killing.restore(host, bench.fresh if in_bootstrap else bench.prepared)
        began, running = time.monotonic(), host.start(PRODUCTION)
        while time.monotonic() - began < moment and running.poll() is None:
            time.sleep(0.02)
        if running.poll() is None:
            break
        moment = (time.monotonic() - began) * share / whole  # this machine is quicker now than when it was measured
    names = killing.end_tree(running)
    if number % 3 == 2:
        host.power_cut()
    records = killing.journal(host)
    last_record = f"{records[-1]['type']} {records[-1].get('step', {}).get('id', '')}" if records else "no journal"
    told = f"seed {SEED}, {then} {number}: killed after {moment:.2f} s at “{last_record}”: {' '.join(names)}"
    print(told)
    return told


@pytest.mark.parametrize("number", NUMBERS)
def test_install_killed_at_random_is_uninstalled(request: pytest.FixtureRequest, number: int) -> None:
    bench: Bench = request.getfixturevalue("cold" if number % 2 else "warmed")
    host = bench.host
    told = _killed(bench, "uninstall", number)
    back = host.run([UNINSTALL, *PURGE], check=False, timeout=900)
    assert back.code == 0, f"{told}\n{back.describe()}"
    assert "\n".join(bench.pristine.diff(host.fingerprint())) == "", f"{told}\n{back.describe()}"
    assert not host.exists("/var/lib/nqrust-microvm") and not host.exists(product.CACHE), told
    assert host.run(["dpkg", "--audit"]).stdout == "", told


@pytest.mark.parametrize("number", NUMBERS)
def test_install_killed_at_random_is_resumed(warmed: Bench, number: int) -> None:
    bench, host = warmed, warmed.host
    told = _killed(bench, "resume", number)
    again = host.run(PRODUCTION, check=False, timeout=900)
    assert again.code == 0, f"{told}\n{again.describe()}"
    assert "\n".join(bench.installed.diff(killing.settled(host))) == "", f"{told}\n{again.describe()}"
    if number % 4 == 0:  # and all of it goes, though two runs have brought it
        back = host.run([UNINSTALL, *PURGE], check=False, timeout=900)
        assert back.code == 0 and "others need" not in back.stdout, f"{told}\n{back.describe()}"
        assert "\n".join(bench.pristine.diff(host.fingerprint())) == "", f"{told}\n{back.describe()}"
