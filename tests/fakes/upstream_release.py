"""A release in upstream's form, on a server of this process."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nqrust.installer.release import upstream


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture(name="release")
def served_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served" / "v0.4.2"
    folder.mkdir(parents=True)
    lines = []
    for name in (*upstream.ASSETS.values(), "alpine.ext4", "vmlinux-6.1"):
        (folder / name).write_bytes(name.encode() * 100)
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  ./dist/{name}")
    (folder / upstream.CHECKSUMS).write_text("\n".join(lines) + "\n")
    (folder / upstream.MANIFEST).write_text(json.dumps({"version": "v0.4.2"}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v0.4.2", folder
    server.shutdown()
    server.server_close()
