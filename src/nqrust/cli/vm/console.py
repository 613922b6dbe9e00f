"""The serial console of a VM over a WebSocket: raw at a terminal, plain bytes without one."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from nqrust import loopback
from nqrust.cli import outlet
from nqrust.cli.connection import ManagerError
from nqrust.cli.vm import terminal
from nqrust.contract.text import argument

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LEAVE = b"\x1d"
"""Ctrl-], as in telnet(1)."""
_QUIET = 1.5
"""Seconds without output after the end of standard input, after which the client stops waiting."""
_LONGEST = 15.0
"""Seconds after the end of standard input, after which the client leaves in any case."""


def attach(url: str, name: str, authority: str | None = None) -> int:
    """Connect standard input and output to the console at `url` (with its ticket). Ends at Ctrl-], at the end of input, when the
    console ends, or when nobody reads the output any more. Returns the exit code. Raises ManagerError NQR-API-195, and OSError if
    the output cannot be written."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    from nqrust.tls import contexts

    try:
        # No proxy: every other command also connects to the manager directly.
        tls = contexts.client(authority) if authority else None
        known = loopback.connect(url)
        connection = connect(url, sock=known, ssl=tls, max_size=None, open_timeout=15, close_timeout=2, proxy=None)
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ManagerError(
            "NQR-API-195",
            f"The console of {name} cannot be opened: {error}.",
            f"Check its state with: nqr vm show {argument(name)}",
        ) from error
    with connection:
        return _joined(connection, name)


def _joined(connection: ClientConnection, name: str) -> int:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    heard = _Listener(connection, stdout)
    raw = os.isatty(stdin)
    if raw:
        sys.stderr.write(f"Console of {name}. Ctrl-] leaves; the VM keeps running.\r\n")
    with terminal.raw(stdin, raw):
        heard.start()
        ended = _send_input(connection, heard, stdin, raw)
    if ended == "input":
        _drain(heard)
    if heard.unwritten:
        raise heard.unwritten
    if heard.refused and ended != "leave":
        raise ManagerError(
            "NQR-API-195",
            f"The console of {name} was closed: {heard.refused}.",
            f"Check its state with: nqr vm show {argument(name)}; a console needs a valid token with the role operator.",
        )
    if raw:
        sys.stderr.write("\r\nLeft the console.\r\n" if ended == "leave" else "\r\nThe console is closed.\r\n")
    return 0


class _Listener(threading.Thread):
    """Thread that writes the received bytes to standard output. Sets `over` when the console ends or nobody reads the output.
    `refused`: why the manager or the agent has ended it. `unwritten`: why the output cannot be written."""

    def __init__(self, connection: ClientConnection, stdout: int) -> None:
        super().__init__(daemon=True)
        self._connection, self._stdout = connection, stdout
        self.over = threading.Event()
        self.refused = ""
        self.unwritten: OSError | None = None
        self.last = time.monotonic()

    def run(self) -> None:
        from websockets.exceptions import ConnectionClosed, WebSocketException

        try:
            for message in self._connection:
                if not self._shown(message.encode() if isinstance(message, str) else bytes(message)):
                    return
                self.last = time.monotonic()
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code >= 4000:
                self.refused = error.rcvd.reason.rstrip(".")
        except (OSError, WebSocketException):
            pass
        finally:
            self.over.set()

    def _shown(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._stdout, data) :]
        except OSError as error:
            if not outlet.nobody_reads(self._stdout, error):
                self.unwritten = error
            return False
        return True


def _send_input(connection: ClientConnection, heard: _Listener, stdin: int, raw: bool) -> str:
    """Send the typed input. Return why it ended: `leave`, `input` (end of input) or `over` (end of the console, or of the
    terminal: a raw one has no other end of input)."""
    from websockets.exceptions import WebSocketException

    while not heard.over.is_set():
        ready, _, _ = select.select([stdin], [], [], 0.2)
        if not ready:
            continue
        try:
            data = os.read(stdin, 4096)
        except OSError:
            if not raw:
                raise
            return "over"
        if not data:
            return "over" if raw else "input"
        before, leave, _ = data.partition(LEAVE) if raw else (data, b"", b"")
        try:
            if before:
                connection.send(before)
        except (OSError, WebSocketException):
            return "over"
        if leave:
            return "leave"
    return "over"


def _drain(heard: _Listener) -> None:
    """Wait for the answer to the last input."""
    deadline = time.monotonic() + _LONGEST
    heard.last = time.monotonic()
    while time.monotonic() < min(deadline, heard.last + _QUIET):
        if heard.over.wait(0.1):
            return
