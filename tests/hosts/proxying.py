"""A proxy that counts: plain HTTP and CONNECT, outside the host, and the only way out of its network.

It can ask for a name and a password (RFC 7235), and look into TLS with certificates of its own, as a company's may.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import socketserver
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from nqrust.tls.authority import Authority

_QUIET = 120.0  # seconds after which a tunnel without traffic ends


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True

    def __init__(self, address: tuple[str, int], credentials: str, authority: Authority | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.asked: Counter[str] = Counter()
        self.password = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
        self.authority = authority

    def posing_as(self, host: str) -> ssl.SSLContext | None:
        """What it shows to a client that believes to talk to `host`; None when it passes TLS on as it is."""
        if self.authority is None:
            return None
        pair = self.authority.issue([host])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(pair.certificate + pair.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with self._there(host, int(port)) as there:
            if there is not None:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                context = self.server.posing_as(host)
                if context is None:
                    _relay(self.connection, there)
                else:
                    self._look_into(context, there, host)
        self.close_connection = True

    def _look_into(self, context: ssl.SSLContext, there: socket.socket, host: str) -> None:
        with (
            contextlib.suppress(OSError),  # a client that does not trust it hangs up
            context.wrap_socket(self.connection, server_side=True) as client,
            ssl.create_default_context().wrap_socket(there, server_hostname=host) as server,
        ):
            _relay(client, server)

    def do_GET(self) -> None:
        """Pass the request on as it is, and end the connection after its answer."""
        asked = urlsplit(self.path)
        with self._there(asked.hostname or "", asked.port or 80) as there:
            if there is not None:
                path = f"{asked.path or '/'}{f'?{asked.query}' if asked.query else ''}"
                hop = ("connection", "proxy-connection", "proxy-authorization", "keep-alive")
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
        if self.server.password and self.headers["Proxy-Authorization"] != self.server.password:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="office"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            yield None
            return
        self.server.asked[host] += 1
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
            ends = [end for end in (one, other) if isinstance(end, ssl.SSLSocket) and end.pending()]
            readable = ends or select.select([one, other], [], [], _QUIET)[0]
            if not readable:
                return
            for end in readable:
                data = end.recv(65536)
                if not data:
                    return
                (other if end is one else one).sendall(data)


@dataclass(frozen=True)
class Proxy:
    """`url`: without name and password. `asked`: how often it was asked for each host, with the right password."""

    url: str
    asked: Counter[str]


@contextlib.contextmanager
def proxy(address: str, *, credentials: str = "", authority: Authority | None = None) -> Iterator[Proxy]:
    """`credentials`: NAME:PASSWORD that it asks for. `authority`: signs the certificates with which it looks into TLS."""
    with _Server((address, 0), credentials, authority) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            name = f"[{address}]" if ":" in address else address
            yield Proxy(f"http://{name}:{server.server_address[1]}", server.asked)
        finally:
            server.shutdown()
            thread.join()
