"""The next installer finds the children of a killed one through the lock and waits for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nqrust.host.children import Child, at_work
from nqrust.host.local import LocalHost
from nqrust.host.locks import ASKING
from nqrust.host.port import command
from nqrust.installer.engine import survivors
from nqrust.installer.engine.errors import Locked
from nqrust.installer.engine.events import Event, Notice, NullReporter
from nqrust.installer.engine.lock import exclusive

HOLDER = """
import sys
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.installer.engine.lock import exclusive
with exclusive(sys.argv[1], "install"):
    LocalHost().run(command("sh", "-c", sys.argv[2]))
"""


class Ear:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def emit(self, event: Event) -> None:
        assert isinstance(event, Notice)
        self.heard.append(event.text)


def killed_while_it_runs(lock: Path, script: str, begun: Path) -> None:
    """An installer is killed, alone, while its child runs `script`, which makes `begun`."""
    written_down = f"""until grep -qF '"children": [[' {lock}; do :; done; """
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock), written_down + script]) as holder:
        while not begun.exists():
            assert holder.poll() is None
        holder.send_signal(signal.SIGKILL)


def test_installer_waits_for_a_survivor_and_its_children(tmp_path: Path) -> None:
    lock, begun, late = tmp_path / "lock", tmp_path / "begun", tmp_path / "late"
    killed_while_it_runs(lock, f"(touch {begun}; sleep 1.5; touch {late}) & sleep 0.2", begun)
    ear = Ear()
    with exclusive(str(lock), "rollback", ear):
        assert late.exists(), "nothing of the killed one is at work any more"
    assert len(ear.heard) == 1 and "which an interrupted nqr left running" in ear.heard[0]
    assert not lock.exists()


def test_installer_does_not_wait_for_daemons_of_a_survivor(tmp_path: Path) -> None:
    lock, begun, pid = tmp_path / "lock", tmp_path / "begun", tmp_path / "pid"
    killed_while_it_runs(
        lock, f"setsid sh -c 'echo $$ >{pid}; exec sleep 60' & while ! test -s {pid}; do :; done; touch {begun}; sleep 0.5", begun
    )
    try:
        began = time.monotonic()
        with exclusive(str(lock), "install"):
            assert time.monotonic() - began < 30
            os.kill(int(pid.read_text()), 0)
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_installer_ends_a_survivor_that_does_not_exit(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    killed_while_it_runs(tmp_path / "lock", f"touch {begun}; sleep 60", begun)
    children = [Child(*row) for row in json.loads((tmp_path / "lock").read_bytes())["children"]]
    assert len(children) == 1 and at_work(children[0])
    survivors.wait_for(children, NullReporter(), limit=0.2)
    assert not at_work(children[0])


def test_installer_leaves_a_process_that_reuses_the_pid_alone() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        try:
            assert at_work(Child(other.pid, 1)) == []
            survivors.wait_for([Child(other.pid, 1)], NullReporter(), limit=0.0)
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("pid", [0, -1])
def test_installer_ignores_the_pid_of_a_dead_process(pid: int) -> None:
    assert at_work(Child(pid, 0)) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1, "verb": "install", "since": 1.0}', b"[]", b'{"children": [[1]]}'])
def test_installer_takes_a_lock_without_an_owner(tmp_path: Path, content: bytes) -> None:
    lock = tmp_path / "lock"
    lock.write_bytes(content)
    with exclusive(str(lock), "install"):
        LocalHost().run(command("true"))
        told = json.loads(lock.read_bytes())
        assert told["pid"] == os.getpid() and told["children"] == []
        with pytest.raises(Locked, match="nqr install"), exclusive(str(lock), "uninstall"):
            raise AssertionError("two at a time")


def test_lock_says_that_its_holder_asks_until_the_answer_comes(tmp_path: Path) -> None:
    """With programs that end meanwhile, too: each writes the file again."""
    lock = tmp_path / "lock"
    with exclusive(str(lock), "install") as asking:
        assert ASKING not in json.loads(lock.read_text())
        with asking():
            LocalHost().run(command("true"))
            noted = json.loads(lock.read_text())
            assert noted[ASKING] is True and noted["pid"] == os.getpid()
        assert ASKING not in json.loads(lock.read_text())


def test_second_run_is_told_whether_the_first_one_works_or_asks(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")

    def refusal() -> Locked:
        with pytest.raises(Locked) as refused, exclusive(lock, "uninstall"):
            raise AssertionError("two at a time")
        return refused.value

    with exclusive(lock, "install") as asking:
        with asking():
            told = refusal()
            assert "waits for an answer" in told.what and "Answer there" in told.cure, told
        told = refusal()
        assert "is at work on this host" in told.what and "Answer" not in told.cure, told
    assert told.code == "NQR-ENG-020"
