"""A session in a guest over a WebSocket: `contract.guest` has its messages.

`write` waits until the guest takes more, and the guest waits until `sink` has taken its output. So neither side holds more than
a window of the other's bytes. One thread receives and another calls `sink`: a reader of the output that pauses must not keep nqr
from answering the pings of the manager, which would end the session.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nqrust import loopback
from nqrust.cli.connection import ManagerError, authority, manager
from nqrust.cli.vm.booting import NotReady
from nqrust.contract import guest
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, ProtocolError, Reason
from nqrust.contract.text import argument, plain

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

FAILED = 125
"""Exit code of `nqr` where the command has none: it was not started, or its end is not known. As docker's."""
_CREDIT_AT = guest.WINDOW // 4
_CODES = {Reason.not_found: 127, Reason.not_runnable: 126}
Sink = Callable[[Kind, bytes], None]


class SessionFailed(ManagerError):
    """The session did not run to its end. Exit code 125, or 126 and 127 as a shell's."""

    def __init__(self, code: str, what: str, cure: str, exit_code: int = FAILED) -> None:
        super().__init__(code, what, cure)
        self.exit_code = exit_code


class GuestSilent(SessionFailed, NotReady):
    """No guest agent in the VM answers."""


def ticket(name: str, url: str | None) -> tuple[str, str | None]:
    """Return the address of a new session in the VM, with its ticket, and the authority that the manager must prove. Raises
    SessionFailed."""
    from nqrust.client import calls
    from nqrust.client.call import websocket_url

    try:
        with manager(url) as client:
            return websocket_url(client.base_url, client.send(calls.exec_ticket(name))), authority(client.base_url)
    except ManagerError as error:
        raise SessionFailed(error.code, error.what, error.cure) from error


@contextmanager
def connected(address: str, name: str, trusted: str | None) -> Iterator[ClientConnection]:
    """Yield the WebSocket at `address`. Raises SessionFailed."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    from nqrust.tls import contexts

    try:
        tls = contexts.client(trusted) if trusted else None
        known = loopback.connect(address)
        connection = connect(
            address, sock=known, ssl=tls, max_size=1 << 16, open_timeout=15, close_timeout=2, proxy=None, compression=None
        )
    except (OSError, TimeoutError, WebSocketException) as error:
        raise _not_started(name, f"the manager does not answer ({error})") from error
    with connection:
        yield connection


class Session:
    """`start` it, `write` input, `wait` for its exit code. `sink` gets output and error, in a thread of its own.

    `woken` is called after each change that a waiting caller may look for: credit, the end."""

    def __init__(self, connection: ClientConnection, name: str, sink: Sink, woken: Callable[[], None] = lambda: None) -> None:
        self._connection, self._name, self._sink, self._woken = connection, name, sink, woken
        self._changed = threading.Condition()
        self._input = guest.WINDOW
        self._code: int | None = None
        self._failure: SessionFailed | None = None
        self._broken: BaseException | None = None
        self._output: deque[tuple[Kind, bytearray]] = deque()
        self._held = 0
        self._received = self._over = self._started = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._receive, self._deliver)]

    def start(self, request: ExecRequest) -> None:
        """Raises SessionFailed NQR-VMM-130 if the request is longer than the protocol allows."""
        try:
            payload = request.encode()
        except ProtocolError as error:
            raise _not_started(self._name, str(error)) from error
        self.send(Kind.exec, payload)
        for thread in self._threads:
            thread.start()

    def begun(self) -> None:
        """Wait until the guest has started the command. Raises SessionFailed if it did not."""
        with self._changed:
            self._changed.wait_for(lambda: self._started or self._received)
        if not self._started:
            self.wait()

    @property
    def over(self) -> bool:
        """The command has ended, and `sink` got all of its output."""
        return self._over

    @property
    def room(self) -> int:
        """Bytes of input that the guest takes now."""
        return self._input

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a message; nothing once the session is over."""
        from websockets.exceptions import WebSocketException

        try:
            self._connection.send(guest.message(kind, payload))
        except (OSError, WebSocketException):
            pass  # the receiving thread learns why

    def write(self, data: bytes) -> bool:
        """Send input, at the guest's pace. False: the session ended before it took all."""
        view = memoryview(data)
        while view:
            with self._changed:
                self._changed.wait_for(lambda: self._input or self._received)
                if self._received:
                    return False
                count = min(self._input, guest.MAX_PAYLOAD, len(view))
                self._input -= count
            self.send(Kind.stdin, bytes(view[:count]))
            view = view[count:]
        return True

    def end_input(self) -> None:
        self.send(Kind.stdin)

    def wait(self) -> int:
        """Return the exit code of the command once it and its output have ended. Raises SessionFailed."""
        for thread in self._threads:
            thread.join()
        if self._broken is not None:
            raise self._broken
        if self._failure is not None:
            raise self._failure
        assert self._code is not None
        return self._code

    def _receive(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for data in self._connection:
                kind, payload = guest.parse_message(data, guest.OF_A_SESSION)
                if not self._started:
                    with self._changed:
                        self._started = True
                        self._changed.notify_all()
                if kind in (Kind.stdout, Kind.stderr):
                    self._keep(kind, payload)
                elif kind is Kind.credit:
                    with self._changed:
                        self._input += guest.parse_credit(payload)
                        self._changed.notify_all()
                    self._woken()
                elif kind is Kind.exit:
                    self._code = guest.parse_exit(payload)
                    return
                elif kind is Kind.error:
                    self._failure = _refused(self._name, *guest.parse_error(payload))
                    return
            self._failure = _lost(self._name, "it was closed")
        except ConnectionClosed as error:
            closed = error.rcvd or error.sent
            self._failure = self._of_close(closed.code if closed else 1006, closed.reason if closed else "")
        except ProtocolError as error:
            self._failure = _lost(self._name, f"{error}")
        finally:
            with self._changed:
                self._received = True
                self._changed.notify_all()

    def _keep(self, kind: Kind, payload: bytes) -> None:
        with self._changed:
            self._held += len(payload)
            if self._held > guest.WINDOW:
                raise ProtocolError("more output than was asked for")
            last = self._output[-1] if self._output else None
            if last and last[0] is kind and len(last[1]) + len(payload) <= guest.MAX_PAYLOAD:
                last[1].extend(payload)
            else:
                self._output.append((kind, bytearray(payload)))
            self._changed.notify_all()

    def _deliver(self) -> None:
        """Call `sink` with the output, and give credit for it."""
        unsaid = 0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._output or self._received)
                    if not self._output:
                        return
                    kind, data = self._output.popleft()
                    self._held -= len(data)
                self._sink(kind, bytes(data))
                unsaid += len(data)
                if unsaid >= _CREDIT_AT:
                    self.send(Kind.credit, guest.credit(unsaid))
                    unsaid = 0
        except OSError as error:
            self._broken = error  # nobody reads nqr's output any more
            self._connection.close()
        finally:
            self._over = True
            self._woken()

    def _of_close(self, code: int, reason: str) -> SessionFailed:
        reason = plain(reason).rstrip(".")
        if code in (CloseCode.lost, CloseCode.agent_away, CloseCode.bad_message) or self._started:
            return _lost(self._name, reason or f"the manager or the host's agent ended it ({code})")
        if code == CloseCode.no_answer:
            return _silent(self._name)
        return _not_started(self._name, reason or f"the manager closed the connection ({code})")


def _not_started(name: str, why: str) -> SessionFailed:
    return SessionFailed(
        "NQR-VMM-130",
        f"Nothing was started in {name}: {why}.",
        f"Check its state with: nqr vm show {argument(name)}; a command needs a valid token with the role operator.",
    )


def _silent(name: str) -> GuestSilent:
    return GuestSilent(
        "NQR-VMM-130",
        f"Nothing was started in {name}: no guest agent answers.",
        f"See how it boots with: nqr vm logs {argument(name)}. Its image needs a guest agent of version 0.3.0 or later.",
    )


def _lost(name: str, why: str) -> SessionFailed:
    return SessionFailed(
        "NQR-VMM-131",
        f"The connection to {name} ended before the command did: {why}.",
        f"Run the command again; nqr vm show {argument(name)} shows whether the VM runs.",
    )


def _refused(name: str, reason: Reason, why: str) -> SessionFailed:
    if reason not in _CODES:
        return _not_started(name, plain(why))
    return SessionFailed(
        "NQR-VMM-132",
        f"The guest of {name} cannot run the command: {plain(why)}.",
        "Check the command's name and the folder: they are the guest's.",
        exit_code=_CODES[reason],
    )
