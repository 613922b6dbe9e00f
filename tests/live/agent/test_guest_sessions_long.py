"""Ten thousand commands in one guest, and a gibibyte there and back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = [pytest.mark.hosts, pytest.mark.matrix, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def seen(image: Path) -> Iterator[dict[str, Any]]:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        yield run_script("guest_sessions_long.py", image, work, 10_000, 1024, namespaces=("net", "mount"), seconds=3300)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_ten_thousand_commands_lose_no_byte_and_no_exit_code(seen: dict[str, Any]) -> None:
    assert seen["many"]["wrong"] == []


def test_a_gibibyte_arrives_there_and_back(seen: dict[str, Any]) -> None:
    assert seen["large"]["equal"]


def test_the_agent_keeps_none_of_it(seen: dict[str, Any]) -> None:
    before, after = seen["agent_kib"]
    assert after - before < 16 * 1024
