"""The console against a real WebSocket server, with a terminal and without one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from nqrust.cli.connection import ManagerError
from nqrust.cli.vm.console import attach

NQR = """
import signal, sys
from types import SimpleNamespace
import nqrust.cli.__main__ as cli
import nqrust.cli.app as app
from nqrust.cli.vm.console import attach

if sys.argv[2]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
app.command = lambda: SimpleNamespace(main=lambda **_: attach(sys.argv[1], "web1"))
cli.main(["vm", "console", "web1"])
"""
"""nqr itself, whose command connects to another manager. The second argument: SIGHUP is ignored, as by nohup(1)."""
PROGRAM = "import sys; from nqrust.cli.vm.console import attach; sys.exit(attach(sys.argv[1], 'web1'))"


ENDED = threading.Event()
"""The guest's side of the connection has ended."""


def echo(connection: ServerConnection) -> None:
    """A guest that shows its prompt, then answers every line."""
    connection.send(b"web1 login: ")
    try:
        talk(connection)
    finally:
        ENDED.set()


def talk(connection: ServerConnection) -> None:
    for message in connection:
        data = message if isinstance(message, bytes) else message.encode()
        connection.send(b"you said " + data)


@pytest.fixture
def url() -> Iterator[str]:
    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/vms/web1/console?ticket=t"
        server.shutdown()


def test_console_without_a_terminal_pipes_input_and_output(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, url], input=b"root\n", capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"web1 login: you said root\n"


def test_console_without_input_shows_the_prompt(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, url], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"web1 login: ")


def test_at_a_terminal_control_bracket_leaves_and_the_terminal_is_as_before(url: str) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, url])
    said = b""

    def read_until(wanted: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 20
        while wanted not in said and time.monotonic() < deadline:
            if select.select([fd], [], [], 0.5)[0]:
                said += os.read(fd, 4096)
        assert wanted in said

    read_until(b"login: ")
    os.write(fd, b"\x03")  # Ctrl-C belongs to the guest
    read_until(b"you said \x03")
    os.write(fd, b"\x1d")
    read_until(b"Left the console.")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)


def test_a_console_that_cannot_be_opened_is_a_coded_error() -> None:
    with pytest.raises(ManagerError, match="NQR-API-195"):
        attach("ws://127.0.0.1:9/none", "web1")


def test_a_console_that_the_manager_closes_says_why() -> None:
    def refuse(connection: ServerConnection) -> None:
        connection.close(4403, "you were signed out")

    with serve(refuse, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        done = subprocess.run([sys.executable, "-c", PROGRAM, url], input=b"", capture_output=True, timeout=30)
        server.shutdown()
    assert done.returncode == 1 and b"NQR-API-195" in done.stderr and b"was closed: you were signed out" in done.stderr


def nqr(url: str, *, terminal: int, stderr: int, ignores: bool = False, leads: bool = True) -> subprocess.Popen[bytes]:
    """Start nqr at a terminal. `leads`: it is the terminal's own, so that the terminal's end sends SIGHUP."""

    def take() -> None:
        os.setsid()
        if leads:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    argv = [sys.executable, "-c", NQR, url, "ignores" * ignores]
    return subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=stderr, preexec_fn=take)


@pytest.mark.parametrize("reports", [False, True], ids=["all of it at the terminal", "errors elsewhere"])
@pytest.mark.parametrize("waits", [False, True], ids=["the guest goes on", "the guest is quiet"])
@pytest.mark.parametrize(
    ("ignores", "leads", "code"), [(False, True, 130), (True, True, 0), (False, False, 0)], ids=["SIGHUP", "nohup", "no signal"]
)
def test_a_console_ends_with_its_terminal(
    ignores: bool, leads: bool, code: int, waits: bool, reports: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window or a connection of ssh goes away: quietly, at once, and the guest's side ends, too."""

    def goes_on(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                connection.send(b"tick")
                time.sleep(0.05)

    if not waits:
        monkeypatch.setattr(sys.modules[__name__], "talk", goes_on)
    ENDED.clear()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serve(echo, "127.0.0.1", 0) as server, TemporaryFile() as errors:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        ours, theirs = pty.openpty()
        process = nqr(url, terminal=theirs, stderr=errors.fileno() if reports else theirs, ignores=ignores, leads=leads)
        os.close(theirs)
        said = b""
        while b"login: " not in said and select.select([ours], [], [], 30)[0]:
            said += os.read(ours, 4096)
        os.close(ours)
        began = time.monotonic()
        try:
            assert process.wait(30) == code
        finally:
            process.kill()
            process.wait()
        assert time.monotonic() - began < 10 and ENDED.wait(10)
        errors.seek(0)
        told = errors.read().decode()
        server.shutdown()
    assert list(tmp_path.iterdir()) == []
    if reports:
        last = "NQR-ENG-030  Stopped by SIGHUP." if code else "The console is closed."
        assert last in told and "Traceback" not in told and "NQR-ENG-999" not in told and "NQR-USE-040" not in told


def test_a_console_ends_quietly_with_the_reader_of_its_output(url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    held, typed = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", NQR, url, ""], stdin=held, stdout=writer, stderr=subprocess.PIPE, timeout=30)
    finally:
        for one in (writer, held, typed):
            os.close(one)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_is_no_end_of_the_reader(url: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", NQR, url, ""], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, timeout=30
        )
    assert done.returncode == 1 and b"NQR-USE-040" in done.stderr and b"No space left" in done.stderr
