"""A proxy that counts: plain HTTP and CONNECT, outside the host, and the only way out of its network."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

_QUIET = 120.0  # seconds after which a tunnel without traffic ends


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.asked: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self.server.asked[host] += 1
        with self._there(host, int(port)) as there:
            if there is not None:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _relay(self.connection, there)
        self.close_connection = True

    def do_GET(self) -> None:
        """Pass the request on as it is, and end the connection after its answer."""
        asked = urlsplit(self.path)
        host = asked.hostname or ""
        self.server.asked[host] += 1
        with self._there(host, asked.port or 80) as there:
            if there is not None:
                path = f"{asked.path or '/'}{f'?{asked.query}' if asked.query else ''}"
                hop = ("connection", "proxy-connection", "keep-alive")
                lines = [
                    f"{self.command} {path} HTTP/1.1",
                    *(f"{k}: {v}" for k, v in self.headers.items() if k.lower() not in hop),
                ]
                there.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
                _relay(self.connection, there)
        self.close_connection = True

    do_HEAD = do_GET

    @contextlib.contextmanager
    def _there(self, host: str, port: int) -> Iterator[socket.socket | None]:
        try:
            there = socket.create_connection((host, port), 30)
        except OSError as error:
            self.send_error(502, str(error))
            yield None
            return
        with there:
            yield there


def _relay(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            readable, _, _ = select.select([one, other], [], [], _QUIET)
            if not readable:
                return
            for end in readable:
                data = end.recv(65536)
                if not data:
                    return
                (other if end is one else one).sendall(data)


@contextlib.contextmanager
def proxy(address: str) -> Iterator[tuple[str, Counter[str]]]:
    """Yield its URL, and how often each host was asked for."""
    with _Server((address, 0)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{server.server_address[1]}", server.asked
        finally:
            server.shutdown()
            thread.join()
