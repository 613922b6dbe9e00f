"""Downloads from a server that fails in the ways of real ones."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import transport
from nqrust.installer.release.download import Wanted, fetch, read_small

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    asked: list[tuple[str, str | None]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/error-page":
            self._send(200, b"<html>Please sign in to this network</html>")
            return
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        if self.path == "/cut" and wanted is None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100_000])
            self.wfile.flush()
            self.connection.close()
            return
        if self.path == "/always-cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:10])
            self.connection.close()
            return
        if self.path == "/busy" and len(self.server.asked) < 3:
            self.send_error(503)
            return
        if wanted:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self._send(206, CONTENT[start:], f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            return
        self._send(200, CONTENT)

    def _send(self, code: int, body: bytes, place: str = "") -> None:
        self.send_response(code)
        if place:
            self.send_header("Content-Range", place)
        if self.path == "/strange-mark":
            self.send_header("ETag", '"\N{EURO SIGN}"'.encode().decode("latin-1"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def address(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def quiet(text: str, fraction: float | None) -> None:
    return None


def get(server: Server, path: str, folder: Path, size: int | None = len(CONTENT), digest: str = DIGEST) -> str:
    return fetch(Wanted(address(server, path), digest, size), str(folder), quiet, pause=0)


@pytest.mark.parametrize("path", ["/good", "/redirect", "/busy", "/strange-mark"])
def test_a_file_arrives_whole(server: Server, tmp_path: Path, path: str) -> None:
    assert Path(get(server, path, tmp_path)).read_bytes() == CONTENT


def test_existing_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    get(server, "/good", tmp_path)
    asked = len(server.asked)
    get(server, "/other-address-same-file", tmp_path)
    assert len(server.asked) == asked


def test_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    assert Path(get(server, "/cut", tmp_path)).read_bytes() == CONTENT
    resumed = [wanted for path, wanted in server.asked if wanted]
    assert resumed and resumed[0] != "bytes=0-"


def test_download_that_keeps_failing_leaves_no_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        get(server, "/always-cut", tmp_path)
    assert failure.value.code == "NQR-REL-020"
    assert not (tmp_path / DIGEST).exists()


def test_an_error_page_is_never_saved_as_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        get(server, "/error-page", tmp_path, size=None)
    assert failure.value.code == "NQR-REL-022"
    assert list(tmp_path.iterdir()) == []


def test_a_404_names_the_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        get(server, "/missing", tmp_path)
    assert failure.value.code == "NQR-REL-021"
    assert "/missing" in failure.value.what and "404" in failure.value.what


def test_a_wrong_digest_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        get(server, "/good", tmp_path, digest="0" * 64)
    assert failure.value.code == "NQR-REL-022"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_partial_file_does_not_spoil_the_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.part").write_bytes(b"x" * 1000)
    assert Path(get(server, "/good", tmp_path)).read_bytes() == CONTENT


def test_unreachable_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        fetch(Wanted("http://127.0.0.1:9/x", DIGEST, 1), str(tmp_path), quiet, pause=0)
    assert failure.value.code == "NQR-REL-020"


def test_a_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", address(server, ""))
    got = fetch(Wanted("http://releases.example/good", DIGEST, len(CONTENT)), str(tmp_path), quiet, pause=0)
    assert Path(got).read_bytes() == CONTENT
    assert server.asked[0][0] == "http://releases.example/good"


def test_no_proxy_is_between_this_machine_and_itself(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with transport.client(signed=False) as client:
        assert read_small(address(server, "/good"), client=client) == CONTENT
        with pytest.raises(ReleaseError) as failure:
            read_small("http://releases.example/good", client=client)
    assert failure.value.code == "NQR-REL-027"
    with transport.client(signed=True) as client, pytest.raises(ReleaseError) as failure:
        read_small("http://releases.example/good", client=client)
    assert failure.value.code == "NQR-REL-020", "the proxy is asked, and there is none"


def test_small_text_above_its_limit_is_refused(server: Server) -> None:
    with pytest.raises(ReleaseError) as failure:
        read_small(address(server, "/good"), limit=1000)
    assert failure.value.code == "NQR-REL-022"
