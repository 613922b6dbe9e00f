"""The web UI's shell keeps to the messages of a guest: credit in both directions, and every way in which a session ends."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.installer.effects import fake_manager
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from nqrust.client.call import Call
from nqrust.contract import guest
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, message
from nqrust.contract.vms import ConsoleTicket, Vm
from nqrust.ui.shell import Shell

SIZE = (30, 100)


class Screen:
    """A browser that shows nothing more once `hangs` is set."""

    def __init__(self) -> None:
        self.text, self.looks, self.hangs, self.said, self.is_deleted = "", 0, False, list[str](), False

    def write(self, text: str) -> None:
        self.text += text

    def say(self, text: str) -> None:
        self.said.append(text)

    def run_terminal_method(self, name: str) -> None:
        assert name == "focus"

    async def run_method(self, name: str, timeout: float) -> int:
        if self.hangs:
            raise TimeoutError
        self.looks += 1
        return SIZE[name == "getColumns"]


def shell() -> tuple[Shell, Screen]:
    made, screen = object.__new__(Shell), Screen()
    made._terminal = made._status = screen  # type: ignore[assignment]
    made._vm = "web1"
    made._outgoing = asyncio.Queue()
    return made, screen


def address_of(server: Server) -> str:
    return f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def converse(made: Shell, answer: Any) -> str:
    async with serve(answer, "127.0.0.1", 0) as server, connect(address_of(server), proxy=None) as socket:
        return await asyncio.wait_for(made._converse(socket), 30)


async def test_a_login_shell_with_the_size_of_the_window_is_asked_for() -> None:
    made, screen = shell()
    asked: list[ExecRequest] = []

    async def answer(socket: ServerConnection) -> None:
        first = await socket.recv()
        assert isinstance(first, bytes) and first[0] == Kind.exec
        asked.append(ExecRequest.parse(first[1:]))
        await socket.send(message(Kind.started))
        for piece in ("\u00e9".encode()[:1], "\u00e9".encode()[1:] + b"!"):
            await socket.send(message(Kind.stdout, piece))
        await socket.send(message(Kind.exit, b"\0\7"))

    assert await converse(made, answer) == "The shell ended with exit code 7."
    assert asked == [ExecRequest(environment=((b"TERM", b"xterm-256color"),), terminal=SIZE)]
    assert (screen.text, screen.said) == ("\u00e9!", ["Connected"])


async def test_output_gets_credit_once_the_browser_has_it() -> None:
    made, screen = shell()
    credits: list[int] = []

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        for _ in range(guest.WINDOW // guest.MAX_PAYLOAD):
            await socket.send(message(Kind.stdout, b"x" * guest.MAX_PAYLOAD))
        while sum(credits) < guest.WINDOW:
            data = await socket.recv()
            assert isinstance(data, bytes) and data[0] == Kind.credit
            credits.append(guest.parse_credit(data[1:]))
        await socket.send(message(Kind.exit, b"\0\0"))

    assert await converse(made, answer) == "The shell ended with exit code 0."
    assert len(screen.text) == guest.WINDOW and screen.looks == 2 * (1 + len(credits))


async def test_a_browser_that_does_not_answer_ends_the_session() -> None:
    made, screen = shell()

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        screen.hangs = True
        for _ in range(guest.WINDOW // guest.MAX_PAYLOAD):
            await socket.send(message(Kind.stdout, b"x" * guest.MAX_PAYLOAD))
        await socket.wait_closed()

    assert await converse(made, answer) == "The shell was closed: the browser does not answer."


async def test_input_waits_for_the_guest() -> None:
    made, _ = shell()
    text = "y" * (guest.WINDOW + 1000)
    made._outgoing.put_nowait(text)
    taken: list[int] = []

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        while sum(taken) < guest.WINDOW:
            data = await socket.recv()
            assert isinstance(data, bytes) and data[0] == Kind.stdin
            taken.append(len(data) - 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.3)
        await socket.send(message(Kind.credit, guest.credit(guest.WINDOW)))
        taken.append(len(await socket.recv()) - 1)
        await socket.send(message(Kind.exit, b"\1\x0f"))

    assert await converse(made, answer) == "The shell ended with exit code 143."
    assert sum(taken) == len(text) and max(taken) <= guest.MAX_PAYLOAD


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (message(Kind.error, b"\1no \x1b[2Jshell"), "The guest cannot start a shell: no "),
        (message(Kind.exec, b""), "The guest broke the protocol of the shell: that message is not expected here."),
        ("text", "The guest broke the protocol of the shell: that is no message."),
    ],
)
async def test_a_guest_that_refuses_or_misbehaves_ends_it(sent: bytes | str, told: str) -> None:
    made, _ = shell()

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(sent)
        await socket.wait_closed()

    said = await converse(made, answer)
    assert said.startswith(told) and "\x1b" not in said


async def test_leaving_the_page_ends_the_session() -> None:
    made, _ = shell()
    ended = asyncio.Event()

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.wait_closed()
        ended.set()

    async with serve(answer, "127.0.0.1", 0) as server, connect(address_of(server), proxy=None) as socket:
        made._socket = socket
        talk = asyncio.create_task(made._converse(socket))
        await asyncio.sleep(0.1)
        await made.close()
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.wait_for(talk, 10)


class Manager:
    """A manager with one VM, whose guest comes up after `silent` sessions."""

    def __init__(self, server: Server, silent: int, minutes: int = 0) -> None:
        self.base_url, self.headers = address_of(server).replace("ws:", "http:"), dict[str, str]()
        self.silent, self.started_at, self.asked = silent, datetime.now(timezone.utc) - timedelta(minutes=minutes), 0

    async def send(self, call: Call[Any]) -> Any:
        if call.method == "POST":
            self.asked += 1
            return ConsoleTicket(ticket="t", path="/v1/vms/web1/exec", expires_in=30)
        up = None if self.asked < self.silent else self.started_at
        return Vm.model_validate({**fake_manager.VM, "state": "running", "started_at": self.started_at, "guest_up_at": up})

    async def answer(self, socket: ServerConnection) -> None:
        await socket.recv()
        if self.asked <= self.silent:
            await socket.close(CloseCode.no_answer, "No guest agent in the VM answers.")
            return
        await socket.send(message(Kind.started))
        await socket.send(message(Kind.exit, b"\0\0"))


async def connection(silent: int, minutes: int = 0) -> tuple[str, Screen, Manager]:
    made, screen = shell()
    managers: list[Manager] = []
    async with serve(lambda socket: managers[0].answer(socket), "127.0.0.1", 0) as server:
        managers.append(Manager(server, silent, minutes))
        made._manager = managers[0]  # type: ignore[assignment]
        return await asyncio.wait_for(made._connection(), 30), screen, managers[0]


async def test_a_guest_that_boots_is_waited_for() -> None:
    told, screen, manager = await connection(silent=2)
    assert told == "The shell ended with exit code 0." and manager.asked == 3
    assert screen.said == ["Waiting for the guest …", "Waiting for the guest …", "Connected"]


async def test_a_guest_that_should_be_up_is_not_waited_for() -> None:
    with pytest.raises(ConnectionClosed, match="No guest agent"):
        await connection(silent=9, minutes=10)


async def test_nobody_waits_for_a_page_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Screen, "say", lambda screen, text: setattr(screen, "is_deleted", True))
    with pytest.raises(ConnectionClosed):
        await connection(silent=9)
