"""Browsers that follow no page's rules: they send what they like over the WebSocket of a page."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def web_ui(manager: str, log: Path | str = os.devnull) -> Iterator[tuple[int, int]]:
    """Run the web UI for a manager at an address. Yield its port and its process id. `log`: file for its output."""
    port = free_port()
    settings = {"UI_BIND": f"127.0.0.1:{port}", "MANAGER_BASE": manager, "UI_STORAGE_SECRET": "s" * 40}
    with tempfile.TemporaryDirectory() as folder, open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "nqrust.ui"], cwd=folder, env={**os.environ, **settings}, stdout=output, stderr=output
        )
        try:
            answers(f"http://127.0.0.1:{port}/health", process)
            yield port, process.pid
        finally:
            process.kill()
            process.wait(20)


def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert process.poll() is None
        try:
            httpx.get(url, trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.25)
    raise AssertionError(f"nobody answers at {url}")


@dataclass
class Opened:
    """A page with its WebSocket."""

    id: str
    elements: dict[str, dict[str, Any]]
    socket: ClientConnection

    def event(self, element: str, kind: str, value: object) -> str:
        """Return the message of an event."""
        listener = next(one for one in self.elements[element]["events"] if one["type"] == kind)
        told = {"id": int(element), "client_id": self.id, "listener_id": listener["listener_id"], "args": [json.dumps(value)]}
        return "42" + json.dumps(["event", told])

    def having(self, kind: str, said: str = "") -> str:
        """Return the first element with an event of this kind, and these words in it or below it."""
        return next(
            key
            for key, one in self.elements.items()
            if any(event["type"] == kind for event in one.get("events", ())) and said in self._words(key)
        )

    def _words(self, key: str) -> str:
        one = self.elements[key]
        below = (self._words(str(child)) for child in one.get("children", ()) if str(child) in self.elements)
        return " ".join((str(one.get("text", "")), *map(str, one.get("props", {}).values()), *below))

    async def until(self, said: str, seconds: float = 60.0) -> str:
        """Return the first message that has these words."""

        async def look() -> str:
            while said not in (message := str(await self.socket.recv())):
                if message == "2":
                    await self.socket.send("3")
            return message

        return await asyncio.wait_for(look(), seconds)


@asynccontextmanager
async def opened(port: int, client: httpx.AsyncClient, path: str = "/sign-in") -> AsyncIterator[Opened]:
    text = (await client.get(f"http://127.0.0.1:{port}{path}")).text
    named, drawn = re.search(r"""client_id['"]?:\s*['"]([0-9a-f-]{36})""", text), re.search(r"String\.raw`(.*?)`", text, re.S)
    assert named and drawn, text[:500]
    query = f"&client_id={named[1]}&tab_id=t&document_id=d&implicit_handshake=true&next_message_id=0"
    address = f"ws://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket{query}"
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    async with connect(address, proxy=None, ping_interval=None, close_timeout=1, additional_headers=headers) as found:
        assert str(await found.recv()).startswith("0{")
        await found.send("40")
        yield Opened(named[1], json.loads(html.unescape(drawn[1])), found)


async def sign_in(page: Opened, name: str, password: str) -> None:
    await page.socket.send(page.event(page.having("submit"), "submit", {"username": name, "password": password}))
