"""The time limit of scripts/test.sh: no host test begins after it, and other tests do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.places import ROOT


def ran(folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    """scripts/test.sh with one file, a second after its limit."""
    environment = {**os.environ, "NQR_TEST_SECONDS": "-1", "NQR_TEST_OUTPUT": str(folder)}
    words = ["bash", "scripts/test.sh", path]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_host_tests_are_skipped_after_the_limit_and_the_output_says_so(tmp_path: Path) -> None:
    done = ran(tmp_path / "out", "tests/hosts/test_containers.py")
    assert done.returncode == 0 and "NQR_TEST_SECONDS were over before this test" in done.stdout, done.stdout
    assert done.stdout.rstrip().endswith("0 passed, 0 failed, 1 skipped"), done.stdout


def test_other_tests_know_no_limit(tmp_path: Path) -> None:
    done = ran(tmp_path / "out", "tests/unit/client/test_waiting.py")
    assert done.returncode == 0 and done.stdout.rstrip().endswith(" passed, 0 failed, 0 skipped"), done.stdout
