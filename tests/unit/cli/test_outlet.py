"""A reader that ends before nqr does: `nqr vm ls | head -1`. Each case runs nqr as a process with a pipe that nobody reads."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_audit_commands import Log as Audit
from tests.unit.cli.test_event_commands import event
from tests.unit.cli.test_vm_commands import VM, Handler, answering

from nqrust.cli import outlet

NQR = [sys.executable, "-m", "nqrust.cli"]


class All(Handler):
    def reply(self) -> tuple[int, Any]:
        if self.path.startswith("/v1/audit"):
            return Audit.reply(self)  # type: ignore[arg-type]
        if self.path.startswith("/v1/events"):
            return 200, {"items": [event(1)]}
        if self.path.endswith("/console/log") or "/console/log?" in self.path:
            return 200, "booted\n"
        if self.path.startswith("/v1/vms/v") and self.command == "GET":
            return 200, {**VM, "state": "stopped"}
        return super().reply()


def code(words: list[str], *closed: str) -> int:
    """Run nqr and return its exit code. `closed`: the streams whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {name: writer if name in closed else subprocess.PIPE for name in ("stdout", "stderr")}
    try:
        done = subprocess.run([*NQR, *words], stdin=subprocess.DEVNULL, text=True, timeout=60, **streams)  # type: ignore[call-overload]
    finally:
        os.close(writer)
    for said in (done.stdout or "", done.stderr or ""):
        assert "Traceback" not in said and "Broken pipe" not in said and "Exception" not in said, said
    return int(done.returncode)


@pytest.mark.parametrize(
    "words",
    [
        "", "vm --help", "version", "man", "config schema", "config show", "phase ls", "uninstall --dry-run",
        "uninstall --dry-run --output json", "status -o json", "doctor", "vm ls", "vm ls -q", "vm show nope", "vm logs v1", "nothing",
        "_complete bash nqr vm",
    ],
)  # fmt: skip
def test_a_command_ends_with_its_own_code(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(All, monkeypatch):
        expected = code(words.split())
        assert code(words.split(), "stdout", "stderr") == expected


def test_a_command_for_several_things_does_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(All, monkeypatch) as manager:
        assert code(["image", "rm", "a", "b", "c"], "stdout", "stderr") == 0
        assert len([path for method, path, _ in manager.asked if method == "DELETE"]) == 3


@pytest.mark.parametrize("words", ["event ls -f", "event ls -f -o json", "vm logs -f v1", "vm ls --watch", "audit export"])
def test_a_command_that_follows_ends_with_its_reader(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(All, monkeypatch) as manager:
        assert code(words.split(), "stdout") == 0
        assert len([path for _, path, _ in manager.asked if path.startswith("/v1/audit")]) < 2


@pytest.mark.parametrize("words", ["vm ls", "vm show nope", "vm logs -f v1"])
def test_a_terminal_that_has_gone_is_a_reader_that_has_gone(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(All, monkeypatch):
        expected = 0 if "-f" in words else code(words.split())
        ours, theirs = pty.openpty()
        os.close(ours)
        done = subprocess.run([*NQR, *words.split()], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=60)
        os.close(theirs)
        assert done.returncode == expected


def test_a_broken_disk_is_no_reader_that_has_gone(tmp_path: Path) -> None:
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    with open(tmp_path / "output", "wb") as file, open("/dev/null", "wb") as device:
        assert not outlet.nobody_reads(file.fileno(), broken) and outlet.nobody_reads(device.fileno(), broken)
        assert not outlet.nobody_reads(device.fileno(), OSError(errno.ENOSPC, ""))


LOCAL = """
import sys
from nqrust.cli import __main__ as cli
from nqrust.cli.support import commands
from nqrust.host.local import LocalHost
from nqrust.host.port import command
cli._settle()
try:
    commands._show(LocalHost(), command("sh", "-c", "while :; do echo line; sleep 0.05; done", timeout=30))
except BrokenPipeError as gone:
    sys.exit(40 + gone.exit_code)
"""


def test_the_log_of_a_service_ends_with_its_reader() -> None:
    with subprocess.Popen([sys.executable, "-c", LOCAL], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None and following.stderr is not None
        assert following.stdout.readline() == b"line\n"
        following.stdout.close()
        assert following.wait(20) == 40 and following.stderr.read() == b""


FINISH = """
import sys
from nqrust.cli import __main__ as cli
from nqrust.cli.install import commands
from nqrust.installer.request import Summary
cli._settle()
class Run:
    log_path = ""
    class display:
        summary = staticmethod(lambda verb, summary: sys.stdout.write("removed"))
commands._finish(Run, "uninstall", Summary("ok", 0, farewell="echo farewell >&2\\n"))
"""


@pytest.mark.parametrize("disk", ["full", "gone"])
def test_uninstall_finishes_though_nothing_can_be_shown(disk: str) -> None:
    """Its last part removes the environment of nqr itself."""
    reader, writer = os.pipe()
    os.close(reader)
    output = os.open("/dev/full", os.O_WRONLY) if disk == "full" else writer
    done = subprocess.run([sys.executable, "-c", FINISH], stdout=output, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "farewell\n")
