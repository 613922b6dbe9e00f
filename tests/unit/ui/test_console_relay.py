"""Bytes from the serial port become text without broken characters."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from nqrust.ui.console import receive, why


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
    await receive(Socket(*messages), written.append)  # type: ignore[arg-type]
    assert "".join(written) == said
    assert max(map(len, written)) <= 32 * 1024


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
