"""Outcome of a command inside a test host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


class MachineError(AssertionError):
    """Something in a test host did not work; the message carries the end of its output."""


@dataclass(frozen=True)
class Result:
    """Exit code and decoded output; `seconds` is the wall-clock time."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0

    def describe(self) -> str:
        """The command and the end of what it said, for an assertion message."""
        return (
            f"{' '.join(self.argv)} exited with {self.code} after {self.seconds:.1f} s\n"
            f"--- stdout\n{self.stdout[-6000:]}\n--- stderr\n{self.stderr[-6000:]}"
        )


class Running:
    """A command that was started in a host and goes on. Output goes to `output`, a file outside."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self.output = output

    @property
    def pid(self) -> int:
        """Number outside the host, of the process that waits for the command."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float = 60.0) -> int:
        """Exit code. Raises MachineError after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise MachineError(f"still running after {timeout:g} s: {self.text()[-6000:]}") from late

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it started in its process group, as a terminal's Ctrl-C would.

        nsenter, which leads the group and waits for the command, is left out: it hands on the command's own status. It
        stops itself when the command is stopped, so it is woken together with it.
        """
        for pid in _group(self._process.pid):
            if pid != self._process.pid or number == signal.SIGCONT:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


def _group(leader: int) -> list[int]:
    """Members of a process group (proc(5), field 5 of stat)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[2]) == leader:
                found.append(int(path.parent.name))
    return found
