"""A program of a VM's user that hides from who looks through the process list."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.live.agent.own_users import USER

from nqrust.agent import survivors
from nqrust.agent.users import become
from nqrust.contract.names import VM_USERS
from nqrust.host.local import LocalHost

HOST = LocalHost()
PYTHON = (sys.executable, "-I", "-S", "-c")
RUNNER = """\
import os
while True:
    try:
        if os.fork():
            os._exit(0)
        os.pwrite(1, b"I was here", 0)
    except OSError:
        pass
"""


REAPER = """\
import ctypes, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: else the dead would count as processes of the user
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
subprocess.Popen(sys.argv[1:])
time.sleep(300)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_program_that_no_look_at_proc_finds_ends(tmp_path: Path) -> None:
    """Each process starts the next one and ends: who read its number finds nothing under it."""
    trace = tmp_path / "trace"

    def runs() -> bool:
        before = trace.stat().st_mtime_ns
        time.sleep(0.5)
        return trace.stat().st_mtime_ns != before

    with trace.open("wb") as file:
        argv = (*PYTHON, REAPER, "prlimit", "--nproc=200", *become(USER), *PYTHON, RUNNER)
        reaper = subprocess.Popen(argv, start_new_session=True, stdout=file)
    try:
        time.sleep(0.5)
        assert runs()
        assert survivors.end(HOST, USER)
        assert not runs()
    finally:
        HOST.kill_all_of(USER, USER + len(VM_USERS))
        reaper.kill()
        reaper.wait()
