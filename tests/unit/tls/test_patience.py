"""Servers that send a byte now and then: in a header, in a body, over a redirect."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from unittest.mock import Mock

import httpcore
import httpx
import pytest

from nqrust.image.cloud import fetching
from nqrust.image.errors import ImageError
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import download, transport
from nqrust.manager.images import outgoing
from nqrust.tls import patience

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEADERS = b"HTTP/1.1 200 OK\r\nX-Long: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


class Server:
    """Sends `begin` at once, then a byte every 50 ms for as long as anybody reads."""

    def __init__(self) -> None:
        self.begin, self._listener, self._over = WHOLE, socket.create_server(("127.0.0.1", 0)), threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(self.begin)
                while self.begin is not WHOLE and not self._over.wait(0.05):
                    connection.sendall(b"a")

    def close(self) -> None:
        self._over.set()
        self._listener.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(patience, "PATIENCE", 0.5)
    monkeypatch.setattr(outgoing, "_is_local", lambda address: False)
    found = Server()
    yield found
    found.close()


@pytest.mark.parametrize("begin", [HEADERS, BODY], ids=["headers", "body"])
async def test_server_that_drips_holds_no_download(server: Server, begin: bytes) -> None:
    server.begin = begin
    began = time.monotonic()
    with pytest.raises(ImageError):
        fetching.text(server.url)
    with pytest.raises(ReleaseError):
        download.read_small(server.url)
    with transport.client(signed=True) as client, pytest.raises(httpx.ReadTimeout):
        client.get(server.url)
    async with await outgoing.client(server.url, outgoing.Way()) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get(server.url)
    assert time.monotonic() - began < 10


async def test_server_that_answers_is_heard(server: Server) -> None:
    assert fetching.text(server.url) == "hello" and download.read_small(server.url) == b"hello"
    async with await outgoing.client(server.url, outgoing.Way()) as http:
        assert (await http.get(server.url)).text == "hello"


def test_waits_of_many_answers_are_not_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection may serve many small files, and each may take a while."""
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    inner = Mock(read=lambda count, timeout: time.sleep(0.05) or b"x")
    stream = patience._Stream(inner)
    for _ in range(8):
        stream.write(b"GET")
        assert stream.read(100) == b"x"
    with pytest.raises(httpcore.ReadTimeout, match="sent only"):
        for _ in range(8):
            stream.read(100)


def test_slow_server_that_keeps_its_pace_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    stream = patience._Stream(Mock(read=lambda count, timeout: time.sleep(0.05) or bytes(100)))
    for _ in range(12):
        assert len(stream.read(4096)) == 100
