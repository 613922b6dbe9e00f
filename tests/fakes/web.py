"""A web server of this process on a port of its own, for the files of one folder."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Served:
    url: str
    folder: Path

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


@contextmanager
def serve(folder: Path, address: str = "127.0.0.1") -> Iterator[Served]:
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((address, 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield Served(f"http://{address}:{server.server_address[1]}", folder)
    finally:
        server.shutdown()
        server.server_close()
