"""nqr services start --wait as process 1 of a container: signals reach it, and orphans leave no zombies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.unit.cli.test_services_commands import WAITING

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")

ORPHAN = "import os, time\nif os.fork() == 0:\n    if os.fork() == 0:\n        time.sleep(0.3)\n    os._exit(0)\nos.wait()\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_collects_orphans_and_stops_the_services(number: int, tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(ORPHAN + WAITING)
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-u", script, "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        while process.stdout.readline() != "Waiting for SIGTERM.\n":
            assert process.poll() is None
        (first,) = psutil.Process(process.pid).children()
        time.sleep(1.2)  # longer than the orphan lives and than the process looks around
        assert first.children() == []
        first.send_signal(number)
        assert process.communicate(timeout=60)[0] == "guests have 40 s\nAll services are stopped.\n"
        assert process.returncode == 0
    finally:
        process.kill()
