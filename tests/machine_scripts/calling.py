"""Runs on the machine of the tests: how a test starts one of the scripts beside this and reads its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.places import ROOT, SCRIPTS

LAST_WORK = 30  # seconds for a script that was interrupted


def run_script(name: str, *arguments: object, namespaces: tuple[str, ...] = (), seconds: int) -> Any:
    """The JSON that the script `name` prints. `namespaces`: of unshare(1), such as `net`. Fails with what it complained of."""
    unshare = ["unshare", *(f"--{one}" for one in namespaces)] if namespaces else []
    argv = [*unshare, sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as script:
        try:
            answer, complaint = script.communicate(timeout=seconds)
        except BaseException:
            script.send_signal(signal.SIGINT)  # it ends its VMs; a kill would leave them
            try:
                script.communicate(timeout=LAST_WORK)
            except subprocess.TimeoutExpired:
                script.kill()
            raise
    assert script.returncode == 0, complaint[-6000:]
    return json.loads(answer)
