"""The web UI's shell keeps to the messages of a guest: credit in both directions, and every way in which a session ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

from nqrust.contract import guest
from nqrust.contract.guest import ExecRequest, Kind, message
from nqrust.ui.shell import Shell

SIZE = (30, 100)


class Screen:
    """A browser that shows nothing more once `hangs` is set."""

    def __init__(self) -> None:
        self.text, self.looks, self.hangs = "", 0, False
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def run_terminal_method(self, name: str) -> None:
        assert name == "focus"

    def write(self, text: str) -> None:
        self.text += text

    async def run_method(self, name: str, timeout: float) -> int:
        if self.hangs:
            raise TimeoutError
        self.looks += 1
        return SIZE[name == "getColumns"]


def shell() -> tuple[Shell, Screen]:
    made, screen = object.__new__(Shell), Screen()
    made._terminal = made._status = screen  # type: ignore[assignment]
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
    assert screen.text == "\u00e9!" and screen.said == ["Connected"]


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
