"""Plain HTTP and TLS on one port, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
from asyncio import sslproto
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nqrust.serving import plain
from nqrust.serving import server as serving
from nqrust.serving.connections import Bounds
from nqrust.serving.plain import Plain
from nqrust.serving.protocol import BoundedProtocol, bounded
from nqrust.serving.server import Server
from nqrust.serving.sources import source_of
from nqrust.tls import authority, contexts
from nqrust.tls.authority import Authority

PAIR = authority.new_authority("test")
MANAGER = Authority(PAIR).issue([contexts.MANAGER_NAME, "127.0.0.1", "127.0.0.2"])
AGENT = Authority(PAIR).issue([contexts.agent_name("h-1")])


async def tells(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it knows of the connection."""
    known = {"scheme": scope.get("scheme"), "peer": list(scope.get("state", {}).get("peer_names", ()))}
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(known)})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(known).encode()})


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 426, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served(context: ssl.SSLContext | None, address: str = "127.0.0.1", bounds: Bounds | None = None) -> AsyncIterator[int]:
    listener = socket.create_server((address, 0))
    app = Plain(tells, allowed=lambda _: False, refuse=refuses)
    config = uvicorn.Config(app, http=bounded(bounds or Bounds()), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = Server(config, [listener], lambda: context)
    running = asyncio.create_task(server.serve())
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


def server_context() -> ssl.SSLContext:
    return contexts.server(MANAGER.certificate, MANAGER.key, PAIR.certificate)


async def ask(url: str, verify: Any = True) -> Any:
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        return (await client.get(url)).json()


async def test_one_port_speaks_both_and_knows_who_called() -> None:
    with_certificate = contexts.client(PAIR.certificate, AGENT.certificate, AGENT.key)
    async with served(server_context()) as port:
        assert await ask(f"http://127.0.0.1:{port}") == {"scheme": "http", "peer": []}
        assert await ask(f"https://127.0.0.1:{port}", contexts.client(PAIR.certificate)) == {"scheme": "https", "peer": []}
        assert await ask(f"https://127.0.0.1:{port}", with_certificate) == {
            "scheme": "https",
            "peer": ["h-1.agent.nqrust.internal"],
        }
        async with connect(f"wss://127.0.0.1:{port}", ssl=with_certificate, proxy=None) as console:
            assert json.loads(await console.recv()) == {"scheme": "wss", "peer": ["h-1.agent.nqrust.internal"]}
        async with connect(f"ws://127.0.0.1:{port}", proxy=None) as console:
            assert json.loads(await console.recv()) == {"scheme": "ws", "peer": []}


async def test_without_a_certificate_only_plain_http_is_answered() -> None:
    async with served(None) as port:
        assert (await ask(f"http://127.0.0.1:{port}"))["scheme"] == "http"
        with pytest.raises(httpx.ConnectError):
            await ask(f"https://127.0.0.1:{port}", contexts.unchecked())


async def test_plain_http_from_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "is_loopback", lambda address: address == "127.0.0.1")
    async with served(server_context(), "127.0.0.2") as port, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.2:{port}")).status_code == 426
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.2:{port}", proxy=None)
        assert (await ask(f"https://127.0.0.2:{port}", contexts.client(PAIR.certificate)))["scheme"] == "https"


async def test_clients_that_say_nothing_or_stop_in_the_handshake_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FIRST_BYTE", 0.5)
    async with served(server_context()) as port:
        silent = await asyncio.open_connection("127.0.0.1", port)
        stopped = await asyncio.open_connection("127.0.0.1", port)
        stopped[1].write(b"\x16\x03\x01")
        for reader, writer in (silent, stopped):
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                pass
            writer.close()


async def test_silent_clients_do_not_keep_others_of_their_address_waiting() -> None:
    async with served(server_context()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.1", 0)) for _ in range(100)]
        assert (await ask(f"https://127.0.0.1:{port}", contexts.client(PAIR.certificate)))["scheme"] == "https"
        for _, writer in silent:
            writer.close()


async def test_silent_clients_of_many_addresses_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WAITING", 20)
    monkeypatch.setattr(serving, "source_of", lambda client, server: client[0])
    async with served(server_context()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{n}", 0)) for n in range(9, 40)]
        assert (await ask(f"https://127.0.0.1:{port}", contexts.client(PAIR.certificate)))["scheme"] == "https"
        for _, writer in silent:
            writer.close()


async def test_one_user_or_network_of_many_addresses_takes_the_places_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine has any number of addresses of its /64, and a user of this machine 127.0.0.0/8."""
    monkeypatch.setattr(serving, "WAITING_PER_SOURCE", 5)
    async with served(server_context()) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{n}", 0)) for n in range(9, 29)]
        ended = 0
        for reader, writer in silent:
            with suppress(asyncio.TimeoutError, ConnectionError):
                ended += await asyncio.wait_for(reader.read(1), 0.1) == b""
            writer.close()
    assert ended == 15, "the oldest of them"
    assert source_of(("2001:db8::1:1", 1), ("2001:db8::9", 2)) == source_of(("2001:db8::2:2", 1), ("2001:db8::9", 2))


async def test_new_certificate_is_presented_without_a_restart() -> None:
    context = server_context()
    async with served(context) as port:
        renewed = Authority(PAIR).issue([contexts.MANAGER_NAME, "127.0.0.1"])
        contexts.present(context, renewed.certificate, renewed.key)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=contexts.client(PAIR.certificate))
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert ssl.DER_cert_to_PEM_cert(shown) == renewed.certificate
        writer.close()


async def test_connections_over_tls_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound, 1,000 idle connections take 250 MiB."""
    made: list[sslproto.SSLProtocol] = []
    begin = sslproto.SSLProtocol.connection_made

    def noted(self: sslproto.SSLProtocol, transport: Any) -> None:
        made.append(self)
        begin(self, transport)

    monkeypatch.setattr(sslproto.SSLProtocol, "connection_made", noted)
    async with served(contexts.server(MANAGER.certificate, MANAGER.key)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=contexts.unchecked())
        sizes = [len(getattr(one, "_ssl_buffer", b"")) for one in made]  # Python 3.10 has none
        assert len(made) == 2 and max(sizes) <= serving.TLS_BUFFER
        writer.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "::", "::1"])
def test_nobody_else_can_take_localhost(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listeners = serving.listen(host, port)
    try:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with pytest.raises(OSError, match="in use"):
                socket.create_server((address, port), family=family).close()
    finally:
        for listener in listeners:
            listener.close()


_ASKS = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as asked:
    asked.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(asked.recv(4096).decode(), flush=True)
"""
_HOLDS = """
import socket, sys, time
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
for one in held:
    one.sendall(b"GET / HT")
print("there", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a program of another user")
async def test_a_local_user_shuts_out_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """`waiting` is off: each of that user's connections counts as one at work."""
    monkeypatch.setattr(BoundedProtocol, "waiting", False)
    async with served(None, bounds=Bounds(local=5)) as port:
        argv = ("/usr/bin/python3", "-I", "-c", _HOLDS, str(port), "5")
        holder = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, user=65534, group=65534, extra_groups=[])
        try:
            assert holder.stdout is not None and await holder.stdout.readline() == b"there\n"
            await asyncio.sleep(0.5)
            probe = await asyncio.create_subprocess_exec(
                *("/usr/bin/python3", "-I", "-c", _ASKS, str(port)),
                stdout=subprocess.PIPE,
                user=65534,
                group=65534,
                extra_groups=[],
            )
            assert b" 503 " in (await probe.communicate())[0]
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200
        finally:
            holder.kill()
            await holder.wait()
