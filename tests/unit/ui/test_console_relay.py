"""Bytes from the serial port become text without broken characters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from nqrust.ui.console import _MOST_TYPED, Console, receive, why


class Socket:
    def __init__(self, *messages: bytes | str) -> None:
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        for message in self._messages:
            yield message


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((b"login: ",), "login: "),
        (("é".encode()[:1], "é".encode()[1:] + b"x"), "éx"),
        ((b"\xff", "text"), "\ufffdtext"),
        ((b"a" * 100_000,), "a" * 100_000),
    ],
)
async def test_console_output_is_relayed_in_bounded_pieces(messages: tuple[bytes | str, ...], said: str) -> None:
    written: list[str] = []

    async def shown() -> bool:
        raise AssertionError("it is short")

    assert await receive(Socket(*messages), written.append, shown)  # type: ignore[arg-type]
    assert "".join(written) == said
    assert max(map(len, written)) <= 32 * 1024


@pytest.mark.parametrize("answers", [True, False])
async def test_a_guest_that_writes_without_end_waits_for_the_browser(answers: bool) -> None:
    written, before = [], []

    async def shown() -> bool:
        before.append(sum(map(len, written)))
        return answers

    lines = Socket(*[b"x" * 1000] * 3000)
    assert await receive(lines, written.append, shown) is answers  # type: ignore[arg-type]
    assert len(before) == (11 if answers else 1) and before[0] < 300_000


def test_input_that_a_guest_does_not_take_is_bounded() -> None:
    made: Any = object.__new__(Console)
    made._socket, made._outgoing = object(), asyncio.Queue(maxsize=_MOST_TYPED)
    for _ in range(20):
        made._typed(SimpleNamespace(data="x" * 200_000))
    waiting = [made._outgoing.get_nowait() for _ in range(made._outgoing.qsize())]
    assert sum(map(len, waiting)) <= 1 << 20 and "".join(waiting)[:200_000] == "x" * 200_000


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (Close(4403, "you were signed out"), "The console was closed: you were signed out."),
        (Close(4409, "The VM does not run."), "The console was closed: The VM does not run."),
        (None, "The console was closed: the connection was lost."),
    ],
)
def test_console_close_reason_is_shown_without_its_code(frame: Close | None, said: str) -> None:
    assert why(ConnectionClosedError(frame, None)) == said
