"""The command line: `nqr --help`, `nqr vm ls` and a completed name, over an interpreter that does nothing."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.figures import line, median_seconds, note, under

VMS = 50
_VM = {
    "state": "running", "desired_state": "running", "host": "h1", "ip": "10.0.0.10", "mac": "06:4e:00:00:00:01", "boot_id": "b1",
    "observed_generation": 1, "image": "tiny", "vcpus": 1, "memory_mib": 256, "disk_mib": 32, "created_at": "2026-01-01T00:00:00Z", "tap": "tap0",
}  # fmt: skip
_ANSWER = json.dumps({"items": [{**_VM, "id": f"v{n}", "name": f"web{n}"} for n in range(VMS)], "total": VMS}).encode()


_GET = """
import http.client, os, urllib.parse
connection = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["NQR_MANAGER_URL"]).netloc)
connection.request("GET", "/v1/vms", headers={"Authorization": "Bearer bench"})
connection.getresponse().read()
"""


class _Fixed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    def log_message(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def _manager() -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Fixed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"NQR_MANAGER_URL": f"http://127.0.0.1:{server.server_address[1]}", "NQR_TOKEN": "bench"}
    try:
        yield
    finally:
        server.shutdown()


def bench() -> None:
    nothing = median_seconds([sys.executable, "-I", "-c", "pass"])
    with _manager():
        get = median_seconds([sys.executable, "-I", "-c", _GET])
        _measured("nqr --help", ["--help"], nothing, None, 0.15)
        _measured(f"nqr vm ls, {VMS} VMs", ["vm", "ls"], nothing, get, 0.25)
        _measured("a completed name", ["_complete", "zsh", "vm", "show", ""], nothing, get, None)
    note("without the package click, as in an installation: httpx imports a command line of its own where it finds click")


def _measured(what: str, words: list[str], nothing: float, get: float | None, budget: float | None) -> None:
    main = (
        f"import sys; sys.modules['click'] = None; sys.argv = {['nqr', *words]!r}; from nqrust.cli.__main__ import main; main()"
    )
    took = median_seconds([sys.executable, "-I", "-c", main])
    ratio = f"{took / nothing:.1f} x `python -c pass` ({nothing:.3f} s)"
    ratio += f", {took / get:.1f} x a GET ({get:.3f} s)" if get else ""
    line(what, f"{took:.3f} s", ratio, under(took, budget, "s") if budget else None)
