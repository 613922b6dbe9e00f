"""The guide in a real terminal: tmux with the keys, sizes, terminals and signals that administrators have."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.places import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (Debian: package tmux)"),
    pytest.mark.timeout(180),
]


@dataclass
class Pane:
    """A terminal of tmux. Each start has its own server, so that none meets the end of the one before."""

    folder: Path
    number: int = 0

    def starts(self, *words: str, columns: int = 80, rows: int = 24, **variables: str) -> None:
        given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        argv = [sys.executable, "-m", "tests.machine_scripts.guided", str(self.folder / "stopped"), *words]
        if self.number:
            self.tmux("kill-server", check=False)
        self.number += 1
        line = f"cd {shlex.quote(str(ROOT))}; {given} {shlex.join(argv)}; echo ended with $?; exec sh"
        self.tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), line)

    def tmux(self, *words: str, check: bool = True) -> str:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**kept, "LANG": "C.UTF-8", "TMUX_TMPDIR": str(self.folder), "TERM": "xterm"}
        argv = ["tmux", "-L", f"guide{self.number}", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=check, timeout=20).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def text(self, *more: str) -> str:
        return self.tmux("capture-pane", "-p", *more)

    def waits_for(self, wanted: str, timeout: float = 30.0) -> str:
        return eventually(lambda: shown if re.search(wanted, shown := self.text()) else "", f"{wanted}:\n{self.text()}", timeout)

    def to_the_install(self) -> None:
        self.waits_for("This host is ready")
        self.keys("Enter")
        self.waits_for("Role of this host")
        self.keys("C-n")
        self.waits_for("Exposed")
        self.keys("Enter")
        self.waits_for("left")

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("stopped-logs/*.log"))

    @property
    def program(self) -> int:
        """The process id of the guide."""
        shell = self.tmux("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])


def eventually(probe: Callable[[], str], what: str, timeout: float = 30.0) -> str:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.1)
    raise AssertionError(f"never came: {what}")


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    made = Pane(tmp_path)
    yield made
    made.tmux("kill-server", check=False)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "hold"
    path.touch()
    return path


@pytest.mark.parametrize("term", ["tmux-256color", "xterm", "linux", "vt100"])
def test_an_install_by_keys_alone_leaves_its_summary_in_the_terminal(pane: Pane, held: Path, term: str) -> None:
    pane.starts(TERM=term, NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    held.unlink()
    assert "https://10.77.0.2:3000" in pane.waits_for("NQRust-MicroVM is installed.")
    assert "nqr vm console web1" in pane.text()
    pane.keys("Enter")
    shown = pane.waits_for("ended with 0")
    assert "NQRust-MicroVM is installed." in shown and "k7PgenerAted" not in shown, "the password is shown once"


@pytest.mark.parametrize(("columns", "rows"), [(60, 20), (120, 40)])
def test_the_guide_fits_and_follows_a_new_size(pane: Pane, held: Path, columns: int, rows: int) -> None:
    pane.starts(columns=columns, rows=rows, NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    assert "Ctrl+C or q stop and roll back" in pane.text()
    pane.tmux("resize-window", "-x", "80", "-y", "24")
    eventually(lambda: "y" if pane.text().rstrip().count("\n") == 23 else "", "the keys in line 24")
    assert "Ctrl+C or q stop and roll back" in pane.text()


def test_no_color_draws_no_colour_and_leaves_the_variable(pane: Pane) -> None:
    pane.starts(NO_COLOR="1")
    pane.waits_for("This host is ready")
    assert re.findall(r"\x1b\[[0-9;]*\b(?:3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", pane.text("-e")) == []
    pane.keys("q")
    pane.waits_for("ended with 0")


@pytest.mark.parametrize("answer", ["n", "y"])
def test_a_dumb_terminal_gets_the_short_dialogue(pane: Pane, answer: str) -> None:
    pane.starts(TERM="dumb")
    shown = pane.waits_for(r"Install\? \[y/N\]")
    assert "+ create bridge fcbr0" in shown and "3 changes, 7 already so." in shown
    pane.keys(answer, "Enter")
    shown = pane.waits_for("ended with 0")
    assert ("NQRust-MicroVM is installed." if answer == "y" else "Nothing was changed.") in shown


def test_an_option_gets_the_short_dialogue_and_interactive_the_guide(pane: Pane) -> None:
    pane.starts("--mode", "minimal")
    pane.waits_for(r"Install\? \[y/N\]")
    pane.tmux("kill-server")
    pane.starts("--mode", "minimal", "--interactive")
    pane.waits_for("This host is ready")


def test_ctrl_c_before_the_install_ends_as_interrupted(pane: Pane) -> None:
    pane.starts()
    pane.waits_for("This host is ready")
    pane.keys("C-c")
    assert "NQR-ENG-030" in pane.waits_for("ended with 130")


def test_a_stop_by_keys_is_asked_for_and_rolled_back(pane: Pane, held: Path) -> None:
    pane.starts(NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    pane.keys("C-c")
    pane.waits_for("Stop the install?")
    pane.keys("y")
    pane.waits_for("interrupted and rolled back")
    pane.keys("q")
    pane.waits_for("ended with 130")
    assert (pane.folder / "stopped").read_text() == str(int(signal.SIGINT))


def test_a_kill_with_term_rolls_back_and_says_so(pane: Pane, held: Path) -> None:
    pane.starts(NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    os.kill(pane.program, signal.SIGTERM)
    pane.waits_for("ended with 130")
    assert (pane.folder / "stopped").read_text() == str(int(signal.SIGTERM))
    assert "interrupted and rolled back" in pane.text()


def test_a_lost_terminal_rolls_back_and_ends_the_program(pane: Pane, held: Path) -> None:
    pane.starts(NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    program = pane.program
    pane.tmux("kill-server")
    eventually(lambda: "gone" if not Path(f"/proc/{program}").exists() else "", "the end of the program")
    assert (pane.folder / "stopped").read_text() == str(int(signal.SIGHUP))
    assert "NQR-ENG-999" not in pane.logs()


def test_a_killed_guide_leaves_a_terminal_that_reset_brings_back(pane: Pane, held: Path) -> None:
    pane.starts(NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    os.kill(pane.program, signal.SIGKILL)
    pane.waits_for("ended with 137")
    pane.keys("reset", "C-j")
    time.sleep(2)
    pane.keys("echo back $((40 + 2))", "Enter")
    pane.waits_for(r"(?m)^back 42$")


def test_a_mistake_in_a_screen_has_a_code_and_no_traceback(pane: Pane) -> None:
    pane.starts(NQR_TEST_BREAK="fact_lines")
    shown = pane.waits_for("ended with 1")
    assert "NQR-ENG-999" in shown and "RuntimeError" in shown and "Traceback" not in shown
    assert "inside a screen" in pane.logs()


def test_a_mistake_in_a_screen_does_not_lose_the_install(pane: Pane, held: Path) -> None:
    pane.starts(NQR_TEST_BREAK="end_lines", NQR_TEST_HOLD=str(held))
    pane.to_the_install()
    held.unlink()
    assert "NQRust-MicroVM is installed." in pane.waits_for("ended with 0")
