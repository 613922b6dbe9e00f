"""For all tests: the marker `hosts` and its skip reason; hypothesis does not fail a test for a busy machine; promtool."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.hosts.machine.outside import why_not

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("suite")

_HOSTS = Path(__file__).parent / "hosts"
_LONGEST_FIRST = (
    "test_production.py", "test_documented.py", "test_converge.py", "test_clean.py", "test_kill_random.py", "test_installed.py",
    "test_plain.py", "test_kill_sample.py", "test_adoption.py", "test_two_hosts.py", "test_refusals.py", "test_chaos.py",
    "test_rehearse.py", "test_guided.py",
)  # fmt: skip
"""Files of tests/hosts whose tests share one host and therefore one worker. One of them started last would keep every other
worker waiting at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies below tests/hosts, and skip every test that needs real hosts where none can be made."""
    for item in items:
        if _HOSTS in item.path.parents:
            item.add_marker(pytest.mark.hosts)
    rank = {_HOSTS / name: number for number, name in enumerate(_LONGEST_FIRST)}
    assert all(path.exists() for path in rank), "a file was renamed"
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
    needing = [item for item in items if item.get_closest_marker("hosts")]
    reason = why_not() if needing else None
    if reason:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"no real hosts here: {reason}"))


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
