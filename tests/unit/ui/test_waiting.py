"""Pages that strangers ask for and keep: they take little memory, and keep nobody else's page away."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from nicegui import __version__ as version
from tests.unit.ui.browsers import web_ui
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nqrust.ui import pace
from nqrust.ui.pace import AT_ONCE, SECONDS, Paced

MOST = 300


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def port(log: Path) -> Iterator[int]:
    with web_ui("http://127.0.0.1:9", log) as (number, _):
        yield number


def behind(source: str) -> dict[str, str]:
    return {"X-Forwarded-For": source}


async def page(port: int, source: str = "192.0.2.1") -> str:
    """Ask for a page as a new browser behind a proxy, and return its id."""
    async with httpx.AsyncClient(headers=behind(source), timeout=60) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/sign-in")).text
    found = re.search(r"""client_id['"]?:\s*['"]([0-9a-f-]{36})""", text)
    assert found, text[:500]
    return found[1]


@asynccontextmanager
async def joined(port: int, query: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket as NiceGUI's page opens it."""
    address = f"ws://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket{query}"
    async with connect(address, proxy=None) as found:
        assert str(await found.recv()).startswith("0{")
        await found.send("40")
        assert str(await found.recv()).startswith("40")
        yield found


async def holds(connection: ClientConnection, page_id: str, document: str = "d", tab: str = "t") -> bool:
    """Return whether the connection keeps this page from now on."""
    told = {"client_id": page_id, "tab_id": tab, "document_id": document, "next_message_id": None}
    await connection.send("427" + json.dumps(["handshake", told]))
    while True:
        answer = str(await asyncio.wait_for(connection.recv(), 20))
        if answer.startswith("437"):
            return bool(json.loads(answer[3:])[0])


async def test_strangers_write_little_into_the_log(port: int, log: Path) -> None:
    own = await page(port)
    async with joined(port, f"&client_id={own}") as connection:
        assert await holds(connection, own)
        for _ in range(200):
            told = {"client_id": own, "level": "error", "message": "\x1b[2Jno such thing" + "x" * 100_000}
            await connection.send("42" + json.dumps(["log", told]))
            await connection.send('42["handshake",{}]')
        await connection.send("428" + json.dumps(["handshake", {"client_id": "none", "tab_id": "t", "document_id": "d"}]))
        while not str(await asyncio.wait_for(connection.recv(), 60)).startswith("438"):
            pass
    said = log.read_text()
    assert "no such thing" in said and "\x1b" not in said
    assert len(said) < 150_000


async def test_a_connection_keeps_its_own_page_and_no_other(port: int) -> None:
    own, other = await page(port), await page(port)
    async with joined(port, f"&client_id={own}") as connection:
        assert not await holds(connection, other)
        assert await holds(connection, own)
    for query in ("", "&client_id=", f"&client_id=&x={own}"):
        with pytest.raises(InvalidStatus):
            async with joined(port, query):
                pass
    async with joined(port, "&client_id=unknown") as connection:
        assert not await holds(connection, other)


async def test_names_that_a_browser_makes_up_are_short_and_few(port: int) -> None:
    """The server keeps the name of a document for a minute, and that of a tab for a month: 256 KiB each, and any number of them."""
    own = await page(port)
    for name in ({"tab": "t" * 65}, {"document": "d" * 65}, {"document": ["d"] * 65}):
        async with joined(port, f"&client_id={own}") as connection:
            assert not await holds(connection, own, **name)
    for name in ("document_id", "tab_id", "old_tab_id"):
        names = {"tab_id": "t", "document_id": "d", name: "x" * 65}
        query = "".join(f"&{key}={value}" for key, value in names.items())
        with pytest.raises(AssertionError):
            async with joined(port, f"&client_id={own}&implicit_handshake=true{query}"):
                pass
    kept = []
    for number in range(20):
        async with joined(port, f"&client_id={own}") as connection:
            kept.append(await holds(connection, own, f"document{number}"))
    assert kept[0] and not kept[-1]
    async with joined(port, f"&client_id={own}") as connection:
        assert await holds(connection, own, "document0"), "a browser that comes back is welcome"


@pytest.mark.parametrize(
    "half", ['459999999999-["event",{"_placeholder":true,"num":0}]', "469999999999-7[]", "bAAAA", b"x" * 1000]
)
async def test_half_a_message_ends_the_connection(port: int, half: str | bytes) -> None:
    """The server would keep each binary part until the last one came: any number of them, of 256 KiB."""
    own = await page(port)
    async with joined(port, f"&client_id={own}") as connection:
        assert await holds(connection, own)
        with pytest.raises(ConnectionClosed):
            await connection.send(half)
            while True:
                await asyncio.wait_for(connection.recv(), 20)


async def from_40_sources(port: int, path: str, number: int) -> None:
    """Ask for `path` so often, in turns of the sources 192.0.2.10 to 192.0.2.49."""
    sources = [behind(f"192.0.2.{10 + one}") for one in range(40)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(headers=one, timeout=60)) for one in sources]
        for turn in range(number):
            client = clients[turn % len(clients)]
            assert (await client.get(f"http://127.0.0.1:{port}{path}")).status_code != 429
            client.cookies.clear()


async def test_sources_that_ask_for_many_pages_keep_no_other_page_away(port: int) -> None:
    honest, first = await page(port, "192.0.2.2"), await page(port, "192.0.2.10")
    await from_40_sources(port, "/sign-in", MOST + 20)
    async with joined(port, f"&client_id={honest}") as connection:
        assert await holds(connection, honest)
    async with joined(port, f"&client_id={first}") as connection:
        assert not await holds(connection, first)


async def test_an_address_without_a_page_leaves_no_page_that_waits(port: int) -> None:
    waits = await page(port, "192.0.2.10")
    await from_40_sources(port, "/nothing", MOST + 20)
    async with joined(port, f"&client_id={waits}") as connection:
        assert await holds(connection, waits)


async def test_many_sources_keep_no_new_page_away(port: int) -> None:
    """Each has one page, so the page that goes is not the newest one."""
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(MOST + 20):
            source = behind(f"198.51.{100 + number // 200}.{1 + number % 200}")
            assert (await client.get(f"http://127.0.0.1:{port}/sign-in", headers=source)).status_code == 200
            client.cookies.clear()
    own = await page(port, "192.0.2.3")
    async with joined(port, f"&client_id={own}") as connection:
        assert await holds(connection, own)


async def test_a_source_that_asks_for_pages_without_a_pause_is_refused_and_others_are_not(port: int) -> None:
    async with httpx.AsyncClient(headers=behind("192.0.2.99"), timeout=60) as client:
        told: list[int] = []

        async def ask() -> None:
            for _ in range(AT_ONCE // 2):
                told.append((await client.get(f"http://127.0.0.1:{port}/sign-in")).status_code)

        await asyncio.gather(*(ask() for _ in range(6)))
        assert set(told) == {200, 429} and told.count(200) >= AT_ONCE
        assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
    assert await page(port, "192.0.2.98")


async def test_a_source_gets_one_more_page_after_each_interval() -> None:
    now, told = [0.0], []

    async def inner(*_: object) -> None:
        told.append("page")

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            told.append(str(message["status"]))

    async def ask(path: str = "/vms", source: str = "192.0.2.1") -> str:
        await paced({"type": "http", "path": path, "client": (source, 1)}, None, send)  # type: ignore[arg-type]
        return told[-1]

    paced = Paced(inner, lambda: now[0])
    assert {await ask() for _ in range(AT_ONCE)} == {"page"}
    assert (await ask(), await ask(f"/_nicegui/{version}/static/x.js"), await ask(source="192.0.2.2")) == ("429", "page", "page")
    for nowhere in ("/_nicegui", "/_nicegui/x.js", "/_nicegui/0/static/x.js", f"/_nicegui/{version}/esm/x", "/_nicegui_ws/x"):
        assert await ask(nowhere) == "429", "NiceGUI makes a page of it"
    now[0] = 1.01 * SECONDS
    assert (await ask(), await ask()) == ("page", "429")


@pytest.mark.parametrize(("path", "source"), [("/_nicegui/nowhere", "192.0.2.96"), ("/_nicegui/0/static/x.js", "192.0.2.97")])
async def test_an_address_that_leads_nowhere_counts_as_a_page(port: int, path: str, source: str) -> None:
    """NiceGUI makes a page of it, 27 KB long: 250 a second kept everybody else waiting."""
    async with httpx.AsyncClient(headers=behind(source), timeout=60) as client:
        told = [(await client.get(f"http://127.0.0.1:{port}{path}")).status_code for _ in range(AT_ONCE + 40)]
    assert set(told) == {404, 429}


async def test_files_of_the_pages_are_no_pages(port: int) -> None:
    async with httpx.AsyncClient(headers=behind("192.0.2.95"), timeout=60) as client:
        for _ in range(AT_ONCE + 20):
            found = await client.get(f"http://127.0.0.1:{port}/_nicegui/{version}/static/nicegui.js")
            assert found.status_code == 200


async def test_files_beyond_the_share_of_a_source_wait_before_they_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NiceGUI packs a file anew for each request: 20 connections kept everybody else waiting."""
    now, made = [0.0], []

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        made.append(now[0])
        for _ in range(4):
            await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})

    async def send(message: Any) -> None:
        pass

    async def ask(source: str = "192.0.2.1", path: str = f"/_nicegui/{version}/static/x.js") -> float:
        await files({"type": "http", "path": path, "client": (source, 1)}, None, send)  # type: ignore[arg-type]
        return float(made[-1])

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    files = pace.PacedFiles(inner, lambda: now[0])
    free = pace.FILES_AT_ONCE // (4 << 20)
    assert {await ask() for _ in range(free - 1)} == {0.0}
    took = [await ask() for _ in range(4)]
    assert took[-1] - took[-2] == pytest.approx((4 << 20) / pace.FILES_A_SECOND, rel=0.01)
    before = now[0]
    assert await ask("192.0.2.2") == before == now[0], "other sources do not wait"
    assert await ask(path="/vms") == before == now[0], "pages have their own measure"
