"""The web UI's own process has the bounds of the manager."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from nqrust.ui.pace import AT_ONCE


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    environment = {"HOME": str(tmp_path), "UI_BIND": f"127.0.0.1:{number}", "UI_STORAGE_SECRET": "s" * 32}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "nqrust.ui"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"http://127.0.0.1:{number}/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield number
    finally:
        process.terminate()
        process.wait(20)


def test_half_requests_do_not_stay_open(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HT")
    assert all(client.recv(4096).startswith(b"HTTP/1.1 408 ") for client in clients)
    for client in clients:
        client.close()


def test_one_source_has_a_share_of_the_connections(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(520)]
    time.sleep(2)
    closed = 0
    for client in clients:
        client.setblocking(False)
        try:
            closed += not client.recv(1)
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
        client.close()
    assert closed >= 20


def test_messages_are_short_and_not_compressed(port: int) -> None:
    """Socket.IO accepts before anybody signs in."""
    url = f"ws://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=any"
    with connect(url, proxy=None, origin=Origin(f"http://127.0.0.1:{port}")) as client:
        assert client.response is not None and "Sec-WebSocket-Extensions" not in client.response.headers
        with pytest.raises(ConnectionClosed) as closed:
            client.send(b"x" * (300 << 10))
            while True:
                client.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_there_is_no_long_polling(port: int) -> None:
    """Its sessions belong to no connection, so no bound would hold them."""
    answer = httpx.get(f"http://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=polling", trust_env=False)
    assert answer.status_code == 400


_ASKS = """
import socket, sys
told = []
for number in range(1, 1 + int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60, (f"127.0.{number}.1", 0)) as connection:
        lines = ["GET /sign-in HTTP/1.1", "Host: x", f"X-Forwarded-For: 203.0.113.{number}", "Connection: close"]
        connection.sendall("\\r\\n".join([*lines, "", ""]).encode())
        told.append(connection.recv(12)[9:].decode())
        while connection.recv(65536):
            pass
print(*told)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a program of another user")
def test_a_user_of_this_machine_is_one_source_whatever_addresses_it_makes_up(port: int) -> None:
    """Any number of sources would get any number of pages, and each page takes the server 10 ms."""
    command = ("/usr/bin/python3", "-I", "-c", _ASKS, str(port), str(AT_ONCE + 60))
    asked = subprocess.run(command, capture_output=True, timeout=120, user=65534, group=65534, extra_groups=[])
    told = asked.stdout.decode().split()
    assert set(told) == {"200", "429"} and told[:AT_ONCE] == ["200"] * AT_ONCE and told.count("429") > 20
    others: tuple[dict[str, str], ...] = ({"X-Forwarded-For": "203.0.113.1"}, {})  # the browser of that address, and root
    for headers in others:
        assert httpx.get(f"http://127.0.0.1:{port}/sign-in", headers=headers, timeout=60, trust_env=False).status_code == 200
