"""Downloads from servers that misbehave in every way. Each row is a list of answers, one for each request in turn."""

from __future__ import annotations

import gzip
import hashlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import transport
from nqrust.installer.release.download import Wanted, fetch, read_small
from nqrust.installer.release.meter import Meter, duration, size
from nqrust.installer.release.retrying import LONGEST, retry_after
from nqrust.tls.patience import patient

CONTENT = random.Random(7).randbytes(200_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TAG = 'ETag: "one"\r\n'
Answer = Callable[[socket.socket, dict[str, str]], None]


def reply(status: str, headers: str, body: bytes = b"") -> Answer:
    def answer(connection: socket.socket, asked: dict[str, str]) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n".encode() + body)

    return answer


def whole(body: bytes = CONTENT, headers: str = TAG) -> Answer:
    return reply("200 OK", f"{headers}Content-Length: {len(body)}\r\n", body)


def cut(after: int = 50_000, headers: str = TAG) -> Answer:
    return reply("200 OK", f"{headers}Content-Length: {len(CONTENT)}\r\n", CONTENT[:after])


def rest(shift: int = 0, total: int | str = len(CONTENT), body: bytes = CONTENT) -> Answer:
    """The rest that was asked for. `shift`: it begins elsewhere than it was asked."""

    def answer(connection: socket.socket, asked: dict[str, str]) -> None:
        start = int(re.sub(r"\D", "", asked["range"])) + shift
        end = len(body) - 1
        reply(
            "206 Partial Content",
            f"Content-Range: bytes {start}-{end}/{total}\r\nContent-Length: {len(body) - start}\r\n",
            body[start:],
        )(connection, asked)

    return answer


def reset(connection: socket.socket, asked: dict[str, str]) -> None:
    """Half of the file, then a reset (SO_LINGER 0)."""
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT[:1000])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(connection: socket.socket, asked: dict[str, str]) -> None:
    """A byte now and then: never a time-out, never an end."""
    connection.sendall(f"HTTP/1.1 200 OK\r\n{TAG}Content-Length: {len(CONTENT)}\r\n\r\n".encode())
    for number in range(200):
        connection.sendall(CONTENT[number : number + 1])
        time.sleep(0.02)


def endless(connection: socket.socket, asked: dict[str, str]) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(CONTENT)


def silent(connection: socket.socket, asked: dict[str, str]) -> None:
    time.sleep(0.4)  # more than the timeout of `get`, less than two of them


def chunked(body: bytes) -> Answer:
    return reply("200 OK", "Transfer-Encoding: chunked\r\n", b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")


BUSY = "503 Service Unavailable"
HTML = b"<!doctype html><p>Please sign in to this network"


@dataclass
class Server:
    """`asked`: the headers of each request, names in lower case."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    """Give the answers in turn, the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}/file")

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head = connection.recv(65536).decode("latin-1")
                asked = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines()[1:])
                }
                server.asked.append(asked)
                try:
                    answers[min(len(server.asked), len(answers)) - 1](connection, asked)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    continue

    threading.Thread(target=run, daemon=True).start()
    try:
        yield server
    finally:
        listener.close()


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nqrust.tls.patience.PATIENCE", 0.35)  # more than the timeout of `get`


def get(
    server: Server,
    folder: Path,
    *,
    slept: list[float] | None = None,
    stated: int | None = len(CONTENT),
    mirrors: tuple[str, ...] = (),
) -> bytes:
    with patient(httpx.Client(follow_redirects=True, timeout=0.3, trust_env=False)) as client:
        wanted = Wanted(server.url, DIGEST, stated, mirrors)
        path = fetch(wanted, str(folder), lambda *_: None, client=client, pause=0,
                     sleep=(slept if slept is not None else []).append)  # fmt: skip
    return Path(path).read_bytes()


ENDS_WELL: dict[str, tuple[Answer, ...]] = {
    "a whole file": (whole(),),
    "a file without a length": (reply("200 OK", "", CONTENT),),
    "chunks": (chunked(CONTENT),),
    "cut, then the rest": (cut(), rest()),
    "cut again and again": (cut(), lambda c, a: reply("206 P", f"Content-Range: bytes 50000-199999/{len(CONTENT)}\r\nContent-Length: 150000\r\n", CONTENT[50_000:70_000])(c, a), rest()),
    "a reset, then the rest": (reset, rest()),
    "a server that ignores ranges": (cut(), whole()),
    "a range at another place": (cut(), rest(shift=10), whole()),
    "a range of another size": (cut(), rest(total=len(CONTENT) + 1), whole()),
    "a range without its place": (cut(), reply("206 Partial Content", "Content-Length: 5\r\n", b"12345"), whole()),
    "the rest of another file": (cut(), rest(body=CONTENT[::-1]), whole()),
    "a refused range": (cut(), reply("416 Range Not Satisfiable", ""), whole()),
    "busy at first": (reply(BUSY, ""), reply("429 Too Many Requests", ""), whole()),
    "a server that drips": (drips, rest()),
    "a server that says nothing": (silent, whole()),
    "an answer that is no HTTP": (lambda c, a: c.sendall(b"220 ftp ready\r\n"), whole()),
    "closed at once": (lambda c, a: None, whole()),
}  # fmt: skip


@pytest.mark.parametrize("answers", ENDS_WELL.values(), ids=ENDS_WELL)
def test_a_file_arrives_in_spite_of_its_server(answers: tuple[Answer, ...], tmp_path: Path) -> None:
    with serving(*answers) as server:
        assert get(server, tmp_path) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [DIGEST], "nothing else stays"
    assert len(server.asked) == len(answers)


REFUSED: dict[str, tuple[tuple[Answer, ...], str, str]] = {
    "a web page with 200": ((reply("200 OK", f"Content-Type: text/html; charset=utf-8\r\nContent-Length: {len(HTML)}\r\n", HTML),), "NQR-REL-022", "a web page"),
    "a web page without a length": ((reply("200 OK", "Content-Type: text/html\r\n", HTML),), "NQR-REL-022", "a web page"),
    "another length": ((whole(CONTENT[:-1]),), "NQR-REL-022", "199999 bytes"),
    "a larger length": ((whole(CONTENT + b"x"),), "NQR-REL-022", "200001 bytes"),
    "another content": ((whole(CONTENT[::-1]),), "NQR-REL-022", "sha256"),
    "an endless body": ((endless,), "NQR-REL-022", "more than 200000 bytes"),
    "a longer body without a length": ((chunked(CONTENT * 2),), "NQR-REL-022", "more than"),
    "always cut": ((cut(10, ""), cut(10, "")), "NQR-REL-020", "received 10 bytes"),
    "always busy": ((reply(BUSY, ""),), "NQR-REL-020", "503"),
    "not there": ((reply("404 Not Found", ""),), "NQR-REL-021", "404"),
    "forbidden": ((reply("403 Forbidden", ""),), "NQR-REL-021", "403"),
    "redirects in a circle": ((reply("302 Found", "Location: /file\r\n"),), "NQR-REL-021", "circle"),
    "a redirect to nowhere": ((reply("302 Found", "Location: http://\r\n"),), "NQR-REL-020", ""),
    "a length that is no number": ((reply("200 OK", "Content-Length: many\r\n", CONTENT[:9]),), "NQR-REL-020", ""),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "code", "says"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_had_is_refused(answers: tuple[Answer, ...], code: str, says: str, tmp_path: Path) -> None:
    with serving(*answers) as server, pytest.raises(ReleaseError) as refused:
        get(server, tmp_path)
    assert refused.value.code == code and says in refused.value.what, refused.value
    assert not (tmp_path / DIGEST).exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(CONTENT)


def test_only_the_same_representation_is_continued(tmp_path: Path) -> None:
    with serving(cut(), rest()) as server:
        get(server, tmp_path)
    assert server.asked[1]["range"] == "bytes=50000-" and server.asked[1]["if-range"] == '"one"'
    assert all(asked["accept-encoding"] == "identity" for asked in server.asked)


def test_a_weak_mark_is_not_used(tmp_path: Path) -> None:
    date = "Last-Modified: Sat, 28 Nov 2026 20:00:00 GMT\r\n"
    with serving(cut(headers=f'ETag: W/"one"\r\n{date}'), rest()) as server:
        get(server, tmp_path)
    assert server.asked[1]["if-range"] == "Sat, 28 Nov 2026 20:00:00 GMT"


def test_another_run_continues_where_the_last_one_stopped(tmp_path: Path) -> None:
    with serving(cut(), *[reply(BUSY, "")] * 9) as server, pytest.raises(ReleaseError):
        get(server, tmp_path)
    with serving(rest()) as server:
        assert get(server, tmp_path) == CONTENT
    assert server.asked[0]["range"] == "bytes=50000-" and server.asked[0]["if-range"] == '"one"'


@pytest.mark.parametrize(("value", "waits"), [("7", 7), ("99999", LONGEST), ("soon", 0), ("-1", 0)])
def test_the_wait_that_a_server_asks_for_is_kept(value: str, waits: float, tmp_path: Path) -> None:
    slept: list[float] = []
    with serving(reply(BUSY, f"Retry-After: {value}\r\n"), whole()) as server:
        assert get(server, tmp_path, slept=slept) == CONTENT
    assert slept == [waits]


def test_a_date_in_retry_after() -> None:
    now = 1_800_000_000.0
    assert retry_after(httpx.Headers({"Retry-After": formatdate(now + 30, usegmt=True)}), now) == 30
    assert retry_after(httpx.Headers({"Retry-After": formatdate(now - 30, usegmt=True)}), now) == 0
    assert retry_after(httpx.Headers({}), now) is None


def test_waits_grow(tmp_path: Path) -> None:
    slept: list[float] = []
    with serving(*[reply(BUSY, "")] * 4, whole()) as server, httpx.Client(trust_env=False) as client:
        fetch(Wanted(server.url, DIGEST), str(tmp_path), lambda *_: None, client=client, pause=1.0, sleep=slept.append)
    assert len(slept) == 4 and all(low <= one <= low * 1.5 + 0.5 for one, low in zip(slept, (1, 2, 4, 8), strict=True))


@pytest.mark.parametrize("answer", [reply("404 Not Found", ""), whole(CONTENT[::-1]), reply(BUSY, ""), endless])
def test_a_mirror_takes_over(answer: Answer, tmp_path: Path) -> None:
    with serving(answer) as server, serving(whole()) as mirror:
        assert get(server, tmp_path, mirrors=(mirror.url,)) == CONTENT


def test_without_a_working_mirror_the_first_address_is_named(tmp_path: Path) -> None:
    with (
        serving(reply("404 Not Found", "")) as server,
        serving(reply(BUSY, "")) as mirror,
        pytest.raises(ReleaseError) as refused,
    ):
        get(server, tmp_path, mirrors=(mirror.url,))
    assert refused.value.code == "NQR-REL-021" and server.url in refused.value.what


def test_a_redirect_to_plain_http_is_not_followed(tmp_path: Path) -> None:
    with (
        serving(reply("302 Found", "Location: http://releases.example/file\r\n")) as server,
        transport.client(signed=False) as client,
    ):
        with pytest.raises(ReleaseError) as refused:
            fetch(Wanted(server.url, DIGEST), str(tmp_path), lambda *_: None, client=client, pause=0)
        assert refused.value.code == "NQR-REL-027" and len(server.asked) == 1


def test_progress_tells_size_rate_and_time_left() -> None:
    times = iter((0.0, 1.0, 2.0, 2.05))
    told: list[tuple[str, float | None]] = []
    meter = Meter("file", 10_000_000, lambda *one: told.append(one), clock=lambda: next(times))
    for have in (0, 1_000_000, 4_000_000, 4_100_000):
        meter.at(have)
    assert told == [
        ("file: 0 B of 10.0 MB", 0.0),
        ("file: 1.0 MB of 10.0 MB, 1.0 MB/s, 9 s left", 0.1),
        ("file: 4.0 MB of 10.0 MB, 2.0 MB/s, 3 s left", 0.4),
    ]
    assert [duration(s) for s in (0.1, 59, 125, 4321)] == ["1 s", "59 s", "2 min 5 s", "1 h 12 min"]
    assert [size(n) for n in (812, 3_100_000, 2_500_000_000)] == ["812 B", "3.1 MB", "2.5 GB"]


def test_a_compressed_list_is_refused_before_it_is_expanded() -> None:
    """A few bytes could become any number of them."""
    packed = gzip.compress(bytes(512 << 10))
    with serving(reply("200 OK", f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n", packed)) as server:
        with pytest.raises(ReleaseError) as refused:
            read_small(server.url)
        assert refused.value.code == "NQR-REL-022" and server.asked[0]["accept-encoding"] == "identity"


def test_small_file_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte came before the timeout of a read, so a list of checksums could take a year."""

    def drip() -> Iterator[bytes]:
        for _ in range(200):
            time.sleep(0.02)
            yield b"x"

    monkeypatch.setattr("nqrust.installer.release.download.PATIENCE", 0.3)
    slow = httpx.MockTransport(lambda request: httpx.Response(200, content=drip()))
    with httpx.Client(transport=slow) as client, pytest.raises(ReleaseError) as error:
        read_small("http://releases.example/list", client=client)
    assert error.value.code == "NQR-REL-020" and "bytes in" in error.value.what
