"""nqr vm exec, nqr vm shell: commands in a guest, as its root, without a network."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import pages
from nqrust.cli.connection import ManagerUrl
from nqrust.cli.outlet import ReaderGone, nobody_reads
from nqrust.cli.vm import booting, terminal
from nqrust.cli.vm.guest_session import FAILED, Session, SessionFailed, connected, ticket
from nqrust.contract import guest
from nqrust.contract.guest import ExecRequest, Kind
from nqrust.host.signals import ENDING, handled
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the VM.")]
Words = Annotated[list[str], typer.Argument(metavar="COMMAND", help="Command and its arguments. `--` may stand before it.")]
_PASSED_ON = (*ENDING, signal.SIGQUIT)
_PATIENCE = 3
"""Signals of one kind after which nqr leaves, whatever the command does."""


def build(app: typer.Typer) -> None:
    app.command("exec", cls=pages.OfAnother, help="Run a command in a VM and exit with its code.")(exec_)
    app.command("shell", help="Open root's shell in a VM.")(shell)


def exec_(
    name: Name,
    command: Words,
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Pass on standard input.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give the command a terminal.")] = False,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", metavar="NAME=VALUE", help="Variable for the command. Repeatable.")
    ] = None,
    directory: Annotated[
        str | None, typer.Option("-w", "--workdir", metavar="FOLDER", help="Working directory (default: root's home).")
    ] = None,
    boot_timeout: booting.BootTimeout = booting.PATIENCE,
    url: ManagerUrl = None,
) -> None:
    if tty and interactive and not sys.stdin.isatty():
        raise UsageError("NQR-USE-026", "--tty needs a terminal as standard input.", "Leave out --tty.")
    environment = [_variable(text) for text in env or []]
    _run(name, url, command, boot_timeout, interactive=interactive, tty=tty, environment=environment, directory=directory)


def shell(name: Name, boot_timeout: booting.BootTimeout = booting.PATIENCE, url: ManagerUrl = None) -> None:
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    _run(name, url, [], boot_timeout, interactive=True, tty=at_terminal, environment=[], directory=None)


def _run(
    name: str,
    url: str | None,
    command: list[str],
    patience: float,
    *,
    interactive: bool,
    tty: bool,
    environment: list[tuple[bytes, bytes]],
    directory: str | None,
) -> None:
    window = None
    if tty:
        environment = [(b"TERM", os.fsencode(os.environ.get("TERM", "xterm"))), *environment]
        window = terminal.size()
    request = ExecRequest(
        tuple(os.fsencode(word) for word in command),
        tuple(environment),
        os.fsencode(directory) if directory is not None else None,
        window,
    )

    def attempt() -> int:
        address, trusted = ticket(name, url)
        return attach(address, name, trusted, request, interactive=interactive)

    raise typer.Exit(booting.until_ready(name, url, patience, attempt))


def attach(address: str, name: str, trusted: str | None, request: ExecRequest, *, interactive: bool) -> int:
    """Run `request` over the WebSocket at `address` (with its ticket) and return its exit code. Raises SessionFailed."""
    with connected(address, name, trusted) as connection:
        return _joined(connection, name, request, interactive=interactive)


def _joined(connection: ClientConnection, name: str, request: ExecRequest, *, interactive: bool) -> int:
    """Connect the standard streams to the session until it ends. Return its exit code."""
    stdin, outputs = sys.stdin.fileno(), {Kind.stdout: sys.stdout.fileno(), Kind.stderr: sys.stderr.fileno()}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    waking = threading.RLock()  # a signal may come while its thread holds it
    over = False

    def wake(mark: bytes = b"\0") -> None:
        with waking:
            if over:  # the number of the closed pipe may be another file's by now
                return
            try:
                os.write(writer, mark)
            except BlockingIOError:
                pass  # enough to wake it is there

    prepared = threading.Event()
    """The terminal is raw before the command's output comes, and usual until its guest answers: Ctrl-C ends that wait."""

    def show(kind: Kind, data: bytes) -> None:
        prepared.wait()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(outputs[kind], view) :]
            except OSError as error:
                if not nobody_reads(outputs[kind], error):
                    raise
                raise ReaderGone(FAILED) from None

    session = Session(connection, name, show, wake)
    raw = request.terminal is not None and interactive
    try:
        session.start(request)
        session.begun()
        with terminal.raw(stdin, raw), _signals(lambda number: wake(bytes([number])), raw):
            prepared.set()
            if raw and (size := terminal.size()) != request.terminal:
                session.send(Kind.resize, guest.size(*size))
            if not interactive:
                session.end_input()
            left = _pass_on(session, stdin if interactive else None, reader)
            if left:
                raise SessionFailed("NQR-VMM-131", f"You left the command in {name}.", "The guest ends it with SIGHUP.", 130)
            return session.wait()
    finally:
        with waking:
            over = True
            os.close(reader)
            os.close(writer)


def _pass_on(session: Session, stdin: int | None, marks: int) -> bool:
    """Send input, signals and sizes until the session ends. True: the user wants to leave."""
    seen: dict[int, int] = {}
    while not session.over:
        ready, _, _ = select.select([marks, *([stdin] if stdin is not None and session.room else [])], [], [])
        if marks in ready:
            for mark in {*os.read(marks, 4096)} - {0}:
                if mark == signal.SIGWINCH:
                    session.send(Kind.resize, guest.size(*terminal.size()))
                    continue
                seen[mark] = seen.get(mark, 0) + 1
                if seen[mark] >= _PATIENCE:
                    return True
                session.send(Kind.signal, bytes([mark]))
        if stdin in ready:
            assert stdin is not None
            data = os.read(stdin, min(session.room, guest.MAX_PAYLOAD))
            if data:
                session.write(data)
            else:
                session.end_input()
                stdin = None
    return False


def _signals(tell: Callable[[int], None], at_terminal: bool) -> AbstractContextManager[None]:
    """Call `tell` for each signal instead of ending. A raw terminal sends Ctrl-C as a byte; its other signals still come."""
    numbers = (*_PASSED_ON, signal.SIGWINCH) if at_terminal else _PASSED_ON
    return handled(numbers, lambda number, _: tell(number))


def _variable(text: str) -> tuple[bytes, bytes]:
    name, given, value = text.partition("=")
    if not name or not given:
        raise UsageError(
            "NQR-USE-003", f"--env {text} is not NAME=VALUE.", "Give it as in --env LANG=C. Options of the command follow `--`."
        )
    return os.fsencode(name), os.fsencode(value)
