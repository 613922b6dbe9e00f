"""A uvicorn server whose sockets speak plain HTTP and TLS on the same port. The first byte of a connection says which.

A TLS connection begins with a handshake record, type 22 (RFC 8446, 5.1); no method of HTTP begins with that byte. Whether plain
HTTP is answered is decided by an ASGI middleware (plain.py), because only it can refuse with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from nqrust.serving.sources import source_of
from nqrust.serving.turns import Turns

FIRST_BYTE = 10.0
"""Seconds that a client has for its first byte, and then for the handshake."""
WAITING, WAITING_PER_SOURCE = 512, 64
"""Connections that have not sent anything yet, or are in their handshake: in all, and from one source. The oldest makes room for
the next: a client that begins at once is never the oldest for long."""
HANDSHAKES, HANDSHAKE_SECONDS = 200, 0.04
"""Handshakes of TLS of one source at once, and seconds until one more. Each takes a millisecond or more, before anything is known of
the client, and nothing else runs meanwhile."""
IN_TURN = 64
"""Of one source that wait for a handshake. 50 commands at a time, such as Ansible's forks, wait and do not fail. The last one waits
less than the 3 s that an agent has for a connection."""
ALL_IN_TURN = 2048
"""Of all sources. A machine without systemd may give a process no more than 4096 descriptors (getrlimit(2), RLIMIT_NOFILE), and the
database needs some. A source that has not had its connections at once does not wait."""
UNREAD = 40.0
"""Seconds until the kernel gives up a client that acknowledges nothing, or keeps its window closed: TCP_USER_TIMEOUT of tcp(7)."""
TLS_BUFFER = 32 * 1024
"""Bytes for what arrives on one TLS connection, at least a record (RFC 8446, 5.2). asyncio takes 256 KiB for each, idle or not."""
_HANDSHAKE = b"\x16"
LOOPBACK = "127.0.0.1"
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Context = Callable[[], "ssl.SSLContext | None"]
"""Gives the context for the next connection. None: no TLS (yet)."""


def listen(host: str, port: int, backlog: int = 2048) -> list[socket.socket]:
    """Return listening sockets on every address of `host` (a name or an address), and on 127.0.0.1: the programs of this
    machine connect there. On ::1 too, if that can be had: `localhost` leads browsers there first, and any user could take it.
    Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    wanted = [(family, str(address[0])) for family, _, _, _, address in found]
    if not any(address in ("0.0.0.0", LOOPBACK) for _, address in wanted):
        wanted.append((socket.AF_INET, LOOPBACK))
    made: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys(wanted):
            made.append(socket.create_server((address, port), family=family, backlog=backlog))
    except OSError:
        for one in made:
            one.close()
        raise
    if port and not any(address in ("::", "::1") for _, address in wanted):
        with contextlib.suppress(OSError):  # a machine without IPv6
            made.append(socket.create_server(("::1", port), family=socket.AF_INET6, backlog=backlog))
    return made


class Server(uvicorn.Server):
    """Serves on `sockets` (listening). `context`: see Context. Otherwise like uvicorn's server."""

    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket.socket], context: Context) -> None:
        super().__init__(config)
        self._sockets, self._context = sockets, context
        sslproto.SSLProtocol.max_size = TLS_BUFFER  # type: ignore[attr-defined]  # of all later connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept. Raises SystemExit if the application does not start."""
        await super().startup(sockets=[])

        def protocol() -> asyncio.Protocol:
            made: Any = self.config.http_protocol_class
            result: asyncio.Protocol = made(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=asyncio.get_running_loop(),
            )
            return result

        self.servers = [_Door(listener, self._context, protocol) for listener in self._sockets]  # type: ignore[misc]


class _Door:
    """Accepts connections of one socket. It has those parts of asyncio.Server that uvicorn uses."""

    def __init__(self, listener: socket.socket, context: Context, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = (listener,)
        self._listener, self._context, self._protocol = listener, context, protocol
        self._begun: dict[asyncio.Task[None], str] = {}
        self._asleep_now: set[asyncio.Task[None]] = set()
        self._turns = Turns(HANDSHAKES, HANDSHAKE_SECONDS, longest=IN_TURN * HANDSHAKE_SECONDS)
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        for task in (self._accepting, *self._begun, *self._asleep_now):
            task.cancel()
        self._listener.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, *self._begun, *self._asleep_now, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                # accept(2): errors of the one connection. Without descriptors, wait until some are free.
                await asyncio.sleep(0.2 if error.errno in _FULL else 0)
                continue
            source = _source(connection, address)
            self._make_room(source)
            task = asyncio.create_task(self._begin(connection, source))
            self._begun[task] = source
            task.add_done_callback(lambda done: self._begun.pop(done, None))
            await asyncio.sleep(0)  # those who have begun already, before the next one needs room

    def _make_room(self, source: str) -> None:
        of_source = [task for task, its in self._begun.items() if its == source]
        full = self._begun if len(self._begun) >= WAITING else ()
        oldest = of_source if len(of_source) >= WAITING_PER_SOURCE else list(full)
        if oldest:
            oldest[0].cancel()
            self._begun.pop(oldest[0], None)

    async def _asleep(self, seconds: float, source: str) -> None:
        """Wait for the turn of a handshake. Meanwhile a client that says nothing does not take this one's place."""
        task = asyncio.current_task()
        assert task is not None
        if seconds:
            self._begun.pop(task, None)
            self._asleep_now.add(task)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._asleep_now.discard(task)
            self._make_room(source)
            self._begun[task] = source

    async def _begin(self, connection: socket.socket, source: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD * 1000))
            first = await asyncio.wait_for(_first_byte(loop, connection), FIRST_BYTE)
            context = self._context() if first == _HANDSHAKE else None
            if not first or (first == _HANDSHAKE and context is None):
                connection.close()
                return
            if context is not None:
                if (wait := self._turns.wait(source)) is None or (wait and len(self._asleep_now) >= ALL_IN_TURN):
                    connection.close()
                    return
                await self._asleep(wait, source)
            timeout = FIRST_BYTE if context is not None else None
            await loop.connect_accepted_socket(self._protocol, connection, ssl=context, ssl_handshake_timeout=timeout)
        except (OSError, asyncio.TimeoutError):  # ssl.SSLError is an OSError
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


def _source(connection: socket.socket, address: tuple[Any, ...]) -> str:
    try:
        return source_of((str(address[0]), address[1]), connection.getsockname()[:2])
    except OSError:  # it is gone already
        return str(address[0])


async def _first_byte(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """Return the first byte and leave it in the socket (recv(2), MSG_PEEK). Empty: the client has closed."""
    while True:
        try:
            return connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            readable = asyncio.Event()
            loop.add_reader(connection, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(connection)
