"""For all tests: the marker `hosts` and its skip reason; hypothesis does not fail a test for a busy machine; promtool; signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.hosts.machine.outside import why_not

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("suite")

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:  # by nohup, or by a shell's `&`: every program of a test would inherit it
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

_HOSTS = Path(__file__).parent / "hosts"
_WITH_HOSTS = (_HOSTS, _HOSTS.parent / "live")
_LONGEST_FIRST = (
    "hosts/test_converge.py",  # its install leaves a warm cache for the others
    "hosts/test_production.py", "hosts/test_plain.py", "hosts/test_documented.py", "hosts/test_bridged_own_card.py",
    "hosts/test_proxy.py", "hosts/test_kill_random.py", "hosts/test_installed.py", "hosts/test_network_guard.py",
    "live/scripts/test_bootstrap_on_host.py", "hosts/test_clean.py", "hosts/test_isolated.py", "hosts/test_bridged_ready.py",
    "hosts/test_guided.py", "hosts/test_two_hosts.py", "live/agent/test_full_disk_live.py", "hosts/test_rotate.py",
    "hosts/test_chaos.py", "hosts/test_bundle.py", "hosts/test_adoption.py", "hosts/test_kill_sample.py", "hosts/test_tls.py",
    "live/agent/test_real_firecracker.py", "hosts/test_rehearse.py", "hosts/test_refusals.py", "hosts/test_containers.py",
    "live/scripts/test_packages.py", "live/manager/test_openapi.py", "live/installer/release/test_source_tree.py",
    "live/manager/test_reconcile.py",
)  # fmt: skip
"""Files of host tests, then of live tests. The tests of one share their host and therefore one worker. A long file started last would keep every
other worker waiting at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies below tests/hosts, and skip every test that needs real hosts where none can be made."""
    for item in items:
        if _HOSTS in item.path.parents:
            item.add_marker(pytest.mark.hosts)
    rank = {_HOSTS.parent / name: number for number, name in enumerate(_LONGEST_FIRST)}
    assert all(path.exists() for path in rank), "a file was renamed"
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
    needing = [item for item in items if item.get_closest_marker("hosts")]
    elsewhere = [item.nodeid for item in needing if not any(folder in item.path.parents for folder in _WITH_HOSTS)]
    assert not elsewhere, f"scripts/test.sh looks for host tests in tests/hosts and tests/live only: {elsewhere}"
    reason = why_not() if needing else None
    if reason:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"no real hosts here: {reason}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no host test after the time that scripts/test.sh sets for them: a slow machine ends in time, with a sample."""
    until = os.environ.get("NQR_TEST_UNTIL")
    if until and item.get_closest_marker("hosts") and time.time() > float(until):
        pytest.skip("NQR_TEST_SECONDS were over before this test")


@pytest.fixture
def lint_metrics() -> Callable[[str], list[str]]:
    """What promtool finds wrong with an exposition (names, help, units, types); nothing when it is as Prometheus wants it."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: package prometheus)")

    def lint(exposition: str) -> list[str]:
        done = subprocess.run([program, "check", "metrics"], input=exposition, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        return said or ([f"promtool exited with {done.returncode}"] if done.returncode else [])

    return lint
