"""Signals at each moment of nqr: while it loads, while it works, and while it ends. A terminal gets its mode back."""

from __future__ import annotations

import gc
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from typing import Any

import pytest

from nqrust.cli import signals
from nqrust.cli.vm import terminal
from nqrust.host.signals import handled

AT_AN_IMPORT = """
import os, sys
from nqrust.cli.__main__ import main
number, wanted = int(sys.argv[1]), int(sys.argv[2])
seen = 0
def hook(event, args):
    global seen
    if event == "import":
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), number)
sys.addaudithook(hook)
main(sys.argv[3:])
"""
NOWHERE = {"NQR_MANAGER_URL": "http://127.0.0.1:9", "NQR_TOKEN": "t"}


def at_an_import(number: int, wanted: int, *words: str) -> tuple[int, str]:
    line = [sys.executable, "-c", AT_AN_IMPORT, str(int(number)), str(wanted), *words]
    done = subprocess.run(line, env={**os.environ, **NOWHERE}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wanted", [45, 90, 140, 200, 260, 400])
def test_a_signal_while_modules_load_ends_with_a_report(number: int, wanted: int) -> None:
    code, said = at_an_import(number, wanted, "vm", "ls")
    assert code == 130
    assert (
        said
        == f"NQR-ENG-030  Stopped by {signal.Signals(number).name}.\n  cure: Run the same command again when you are ready.\n"
    )


@pytest.mark.parametrize("wanted", [1, 4, 9, 14, 19, 24, 29])
def test_ctrl_c_before_the_handlers_stand_ends_without_a_traceback(wanted: int) -> None:
    code, said = at_an_import(signal.SIGINT, wanted, "--help")
    assert code == 130 and (said == "" or said.startswith("NQR-ENG-030  Stopped by SIGINT."))


def test_the_report_has_the_form_that_was_asked_for() -> None:
    code, said = at_an_import(signal.SIGINT, 60, "vm", "ls", "-o", "json")
    assert code == 130 and '"code": "NQR-ENG-030"' in said


def test_a_signal_in_a_finalizer_is_not_lost() -> None:
    class Held:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(signals.Stopped, match="SIGTERM"), signals.raising():
        held = [Held()]
        held.clear()
        gc.collect()
        time.sleep(5)


def test_further_signals_let_the_command_wind_up() -> None:
    wound_up = False
    with pytest.raises(signals.Stopped, match="SIGINT"), signals.raising():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            wound_up = True
    assert wound_up


def test_a_third_signal_ends_a_command_that_does_not_wind_up() -> None:
    program = """
import time
from nqrust.cli import signals
with signals.raising():
    signals.put_back.append(lambda: print("put back", flush=True))
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("stuck", flush=True)
        for _ in range(600):
            time.sleep(0.1)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stdout.read()) == (130, "put back\n")


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled([signal.SIGHUP], signals.stop):
            signal.raise_signal(signal.SIGHUP)
        with signals.raising():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_gets_its_mode_back_where_a_signal_cuts_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    set_it, calls = termios.tcsetattr, []

    def cut(*how: Any) -> None:
        calls.append(how)
        if len(calls) == 1:
            raise signals.Stopped("SIGTERM")
        set_it(*how)

    with pytest.raises(signals.Stopped), signals.raising(), terminal.raw(slave, True):
        assert termios.tcgetattr(slave) != before
        monkeypatch.setattr(termios, "tcsetattr", cut)
    assert len(calls) == 2 and termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_raw_terminal_gets_its_mode_back_at_each_signal(number: int) -> None:
    program = """
import sys, time
from nqrust.cli import signals
from nqrust.cli.vm import terminal
try:
    with signals.raising(), terminal.raw(0, True):
        print("ready", flush=True)
        time.sleep(60)
except signals.Stopped:
    sys.exit(130)
"""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with subprocess.Popen([sys.executable, "-c", program], stdin=slave, stdout=slave, stderr=slave) as process:
        said = b""
        while not said.endswith(b"\n") and select.select([master], [], [], 30)[0]:
            said += os.read(master, 100)
        assert said == b"ready\n"  # no \r: raw
        process.send_signal(number)
        assert process.wait(60) == 130
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


FAREWELL = """
import sys
from types import SimpleNamespace as Made
from nqrust.cli.install.commands import _finish
from nqrust.installer.request import Summary
run = Made(log_path="", display=Made(summary=lambda *_: None))
_finish(run, "uninstall", Summary("ok", 7, farewell=sys.argv[1]))
"""


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_does_not_end_what_follows_an_uninstall(name: str) -> None:
    """It removes the bootstrap's packages. The record of them is gone by then."""
    farewell = f"kill -{name} $$\nsh -c 'kill -{name} $$; echo the package manager ends well'\n"
    done = subprocess.run([sys.executable, "-c", FAREWELL, farewell], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, "the package manager ends well\n"), done.stderr
