"""For all tests: the marker `hosts` and its skip reason; hypothesis does not fail a test for a busy machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.hosts.machine.outside import why_not

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("suite")

_HOSTS = Path(__file__).parent / "hosts"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies below tests/hosts, and skip every test that needs real hosts where none can be made."""
    for item in items:
        if _HOSTS in item.path.parents:
            item.add_marker(pytest.mark.hosts)
    needing = [item for item in items if item.get_closest_marker("hosts")]
    reason = why_not() if needing else None
    if reason:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"no real hosts here: {reason}"))
