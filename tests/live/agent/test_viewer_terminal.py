"""The terminal of a console's viewer: it costs the agent nothing while the viewer does not read."""

from __future__ import annotations

import asyncio
import selectors

import pytest

from nqrust.agent.vms import terminal
from nqrust.agent.vms.terminal import Terminal


class Counting(selectors.DefaultSelector):
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


def test_the_agent_rests_while_a_viewer_does_not_read() -> None:
    selector = Counting()

    async def watch() -> int:
        terminal = Terminal(["/bin/sh", "-c", "yes"], {})
        try:
            assert b"y" in await terminal.read()
            before = selector.turns
            await asyncio.sleep(0.3)
            turns = selector.turns - before
            assert b"y" in await terminal.read()
            return turns
        finally:
            await terminal.close()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        assert runner.run(watch()) < 20


async def test_a_terminal_shows_all_and_then_ends() -> None:
    terminal = Terminal(["/bin/sh", "-c", "read line; echo got $line"], {})
    try:
        await terminal.write(b"hello\n")
        shown = b""
        while data := await terminal.read():
            shown += data
        assert b"got hello" in shown
    finally:
        await terminal.close()


async def test_input_that_nobody_takes_ends_the_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.3)
    viewer = terminal.Terminal(["/bin/sh", "-c", "stty raw -echo; echo ready; exec sleep 60"], {"PATH": "/usr/bin:/bin"})
    try:
        assert b"ready" in await viewer.read()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(viewer.write(b"x" * (1 << 20)), 30)
    finally:
        await viewer.close()
