"""Runs on the machine of the tests: how a test starts one of the scripts beside this and reads its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.places import ROOT, SCRIPTS


def run_script(name: str, *arguments: object, namespaces: tuple[str, ...] = (), seconds: int) -> Any:
    """The JSON that the script `name` prints. `namespaces`: of unshare(1), such as `net`. Fails with what it complained of."""
    unshare = ["unshare", *(f"--{one}" for one in namespaces)] if namespaces else []
    done = subprocess.run(
        [*unshare, sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        capture_output=True, text=True, timeout=seconds, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout)
