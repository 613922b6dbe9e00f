"""wget in the guests: Debian's busybox dies of `-T`, so a script stands in for it where that is so."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file, files

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.port import Completed
from nqrust.image import applets, resources, rootfs

BUSYBOX = "/bin/busybox"
USAGE = "Usage: wget [-cqS] [-O FILE]{} URL..."
released = threading.Event()


class Pages(BaseHTTPRequestHandler):
    """`/` answers, `/silent` only when the test is over, `/agent` with what it was asked by."""

    def do_GET(self) -> None:
        if self.path == "/silent":
            released.wait(20)
        body = self.headers["User-Agent"].encode() if self.path == "/agent" else b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    released.set()
    server.shutdown()


def wget(*arguments: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    if not os.access(BUSYBOX, os.X_OK):
        pytest.skip("busybox is not installed")
    with as_file(files(resources.__name__).joinpath("tiny/wget")) as script:
        return subprocess.run(
            [BUSYBOX, "sh", str(script), *arguments], capture_output=True, text=True, cwd=cwd, timeout=30, check=False
        )


@pytest.mark.parametrize(
    "words",
    [
        ["-T", "5", "-qO-"],
        ["-T5", "-q", "-O", "-"],
        ["-qT5", "-O-"],
        ["-qT", "5", "-O-"],
        ["--timeout=5", "-qO-"],
        ["--timeout", "5", "--output-document", "-", "-q"],
        ["-T", "0", "-qO-"],
        ["-qO-"],
        ["-qO-", "-T", "5", "--"],
        ["-q", "--header", "X-Y: -T", "-T", "5", "-O-"],
    ],
    ids=" ".join,
)
def test_wget_accepts_every_timeout_syntax(site: str, words: list[str]) -> None:
    done = wget(*words, f"{site}/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_wget_passes_on_values_that_look_like_a_timeout(site: str) -> None:
    assert wget("-q", "-U", "-T 5", "-O-", f"{site}/agent").stdout == "-T 5"
    assert wget("-qU-T5", "-T", "5", "-O-", f"{site}/agent").stdout == "-T5"


def test_wget_gives_up_on_a_silent_server_in_time(site: str) -> None:
    began = time.monotonic()
    done = wget("-T", "1", "-qO-", f"{site}/silent")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "wget: not done after 1 s")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("words", [["-T", "soon", "http://127.0.0.1:1/"], ["-T"]], ids=" ".join)
def test_invalid_wget_timeout_is_refused(words: list[str]) -> None:
    done = wget(*words)
    assert (done.returncode, done.stderr) == (1, "wget: -T takes a number of seconds\n")


def test_wget_passes_on_the_busybox_failure() -> None:
    done = wget("-T", "5", "-qO-", "http://127.0.0.1:1/")
    assert done.returncode == 1 and "can't connect to remote host" in done.stderr


def test_check_for_the_wget_script_matches_the_local_busybox() -> None:
    """What decides whether the script is needed, held against the busybox of this machine."""
    wget("--help")  # skips where there is none
    usage = subprocess.run([BUSYBOX, "wget", "--help"], capture_output=True, text=True, check=False)
    assert usage.returncode == 0
    done = subprocess.run([BUSYBOX, "wget", "-T", "5", "-qO-", "http://127.0.0.1:1/"], capture_output=True, check=False)
    assert (done.returncode == -signal.SIGSEGV) == ("-T SEC" not in usage.stderr + usage.stdout)


@pytest.mark.parametrize(("option", "script"), [("", True), (" [-T SEC]", False)])
def test_the_script_is_in_the_image_only_where_it_is_needed(option: str, script: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory("/s")
    for path in ("/s/busybox", "/s/agent"):
        host.put(path, b"\x7fELF")
    host.on("/s/busybox", "--list-full", answer="bin/ls\nusr/bin/wget\n")
    host.on("/s/busybox", "wget", "--help", answer=Completed(("busybox",), 0, "", USAGE.format(option)))
    rootfs.populate(host, "/s/root", busybox="/s/busybox", guest_agent="/s/agent")
    found = host.stat("/s/root/usr/bin/wget")
    assert found is not None
    if script:
        assert host.read_bytes("/s/root/usr/bin/wget") == resources.read("tiny/wget") and found.mode == 0o755
        assert 'wget() { /usr/bin/wget "$@"; }\n' in host.read_text("/s/root/etc/profile")
    else:
        assert host.readlink("/s/root/usr/bin/wget") == "/bin/busybox"
        assert "wget" not in host.read_text("/s/root/etc/profile")


def test_build_does_not_probe_a_busybox_without_wget() -> None:
    assert applets.instead(FakeHost.debian12(), "/s/busybox", ["bin/ls"]) == {}
