"""The console against a real WebSocket server, with a terminal and without one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.sync.server import ServerConnection, serve

from nqrust.cli.connection import ManagerError
from nqrust.cli.vm.console import attach

PROGRAM = "import sys; from nqrust.cli.vm.console import attach; sys.exit(attach(sys.argv[1], 'web1'))"


def echo(connection: ServerConnection) -> None:
    """A guest that shows its prompt, then answers every line."""
    connection.send(b"web1 login: ")
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
