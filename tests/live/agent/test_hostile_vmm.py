"""A VMM that a guest took over: root follows no link of its user, and survives answers of any form."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nqrust.agent import survivors
from nqrust.agent.errors import Failed
from nqrust.agent.users import become
from nqrust.agent.vmm.firecracker.api import Api, ApiError
from nqrust.agent.vmm.port import RunState
from nqrust.agent.vmm.qemu.arguments import qmp_socket
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.agent.vmm.sockets import pinned
from nqrust.contract.names import VM_USERS
from nqrust.host.local import LocalHost

HOST = LocalHost()
GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n'
Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Path, Answer], None]]:
    listeners: list[socket.socket] = []

    def start(path: Path, answer: Answer) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        listener.listen(8)
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_ignoring, args=(answer, peer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    yield start
    for listener in listeners:
        listener.close()


def _ignoring(answer: Answer, peer: socket.socket) -> None:
    try:
        answer(peer)
    except OSError:
        pass
    finally:
        peer.close()


def qmp(result: bytes) -> Answer:
    def answer(peer: socket.socket) -> None:
        peer.sendall(GREETING)
        while line := peer.recv(65536):
            asked = json.loads(line)
            body = b"{}" if asked["execute"] == "qmp_capabilities" else result
            number = f', "id": {json.dumps(asked["id"])}'.encode() if "id" in asked else b""
            peer.sendall(b'{"return": ' + body + number + b"}\r\n")

    return answer


def test_a_link_in_place_of_the_monitor_leads_to_no_other_vm(tmp_path: Path, serve: Callable[[Path, Answer], None]) -> None:
    asked: list[bytes] = []

    def victim(peer: socket.socket) -> None:
        asked.append(b"connected")
        qmp(b"{}")(peer)

    serve(tmp_path / "b" / "run" / "qmp.sock", victim)
    (tmp_path / "a" / "run").mkdir(parents=True)
    (tmp_path / "a" / "run" / "qmp.sock").symlink_to(tmp_path / "b" / "run" / "qmp.sock")
    with pytest.raises(Failed):
        Qemu(HOST).pause(str(tmp_path / "a"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run").symlink_to(tmp_path / "b" / "run")
    assert Qemu(HOST).state(str(tmp_path / "c")) is RunState.silent
    assert asked == []
    assert Qemu(HOST).state(str(tmp_path / "b")) is not RunState.silent and asked, "its own is reached"


@pytest.mark.parametrize("result", [b"[]", b'"x"', b"7", b"null", b"[" * 5000 + b"]" * 5000, b"9" * 6000])
def test_an_answer_of_the_monitor_in_any_form_is_silence(
    tmp_path: Path, serve: Callable[[Path, Answer], None], result: bytes
) -> None:
    serve(Path(qmp_socket(str(tmp_path))), qmp(result))
    assert Qemu(HOST).state(str(tmp_path)) is RunState.silent


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"x" * (1 << 20), b'{"fault_message": "' + b"y" * 60_000 + b'"}', b"[]", b'"x"']
)
def test_an_answer_of_firecracker_is_bounded(tmp_path: Path, serve: Callable[[Path, Answer], None], body: bytes) -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    serve(tmp_path / "api.sock", answer)
    with pinned(str(tmp_path / "api.sock")) as path, pytest.raises(ApiError) as refused:
        Api(path, 5.0).send("GET", "/")
    assert len(refused.value.message) <= 500


ENDLESS = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.2),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.2),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2),
    "flood of interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0),
    "status line": (b"", b"H", 0.2),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", 0.2),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_of_firecracker_that_never_ends_has_a_deadline(
    tmp_path: Path, serve: Callable[[Path, Answer], None], what: str
) -> None:
    head, piece, pause = ENDLESS[what]

    def drip(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(head)
        while True:
            peer.sendall(piece)
            time.sleep(pause)

    serve(tmp_path / "api.sock", drip)
    found: list[ApiError] = []

    def ask() -> None:
        with pinned(str(tmp_path / "api.sock")) as path:
            try:
                Api(path, 1.0).send("GET", "/")
            except ApiError as error:
                found.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert found, "the agent waits without end"


def _endless_events(peer: socket.socket) -> None:
    event = b'{"timestamp": {"seconds": 1, "microseconds": 1}, "event": "X", "data": [' + b"{}," * 3000 + b"0]}\r\n"
    while True:
        peer.sendall(event)


def _long_line(peer: socket.socket) -> None:
    peer.sendall(b'{"a":[' + b"{}," * 3_000_000 + b"0]}\r\n")


MEMORY = """
import resource, sys
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.host.local import LocalHost
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(Qemu(LocalHost()).state(sys.argv[1]).value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def seen_by(code: str, folder: Path, serve: Callable[[Path, Answer], None], flood: Answer) -> list[str]:
    """The words that `code` prints of a VM in `folder` whose monitor greets, and then does nothing but `flood`."""

    def answer(peer: socket.socket) -> None:
        peer.sendall(GREETING)
        peer.recv(65536)
        peer.sendall(b'{"return": {}}\r\n')
        flood(peer)

    serve(Path(qmp_socket(str(folder))), answer)
    told = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, timeout=60)
    return told.stdout.split()


@pytest.mark.parametrize("flood", [_endless_events, _long_line])
def test_what_the_monitor_says_fills_no_memory(tmp_path: Path, serve: Callable[[Path, Answer], None], flood: Answer) -> None:
    state, kib = seen_by(MEMORY, tmp_path, serve, flood)
    assert state == "silent" and int(kib) < 40 << 10


def _small_events(peer: socket.socket) -> None:
    while True:
        peer.sendall(b'{"event": "X"}\r\n' * 1000)


def _answers_to_nobody(peer: socket.socket) -> None:
    while True:
        peer.sendall(b'{"return": {}, "id": "x"}\r\n' * 1000)


@pytest.mark.parametrize("flood", [_small_events, _answers_to_nobody])
def test_a_flood_of_the_monitor_takes_little_time_of_the_agents(
    tmp_path: Path, serve: Callable[[Path, Answer], None], flood: Answer
) -> None:
    """All threads of the agent share one interpreter. A few such VMs would keep it from everything else."""
    state, seconds = seen_by(TIME, tmp_path, serve, flood)
    assert state == "silent" and float(seconds) < 0.4


TIME = """
import sys, time
from nqrust.agent.vmm.qemu.driver import Qemu
from nqrust.host.local import LocalHost
qemu, before = Qemu(LocalHost()), time.process_time()
print(qemu.state(sys.argv[1]).value, time.process_time() - before)
"""


def test_a_flood_of_firecracker_takes_little_time_of_the_agents(tmp_path: Path, serve: Callable[[Path, Answer], None]) -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(65536)
        while True:
            peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    serve(tmp_path / "api.sock", answer)
    before = time.thread_time()
    with pinned(str(tmp_path / "api.sock")) as path, pytest.raises(ApiError):
        Api(path, 3.0).send("GET", "/")
    assert time.thread_time() - before < 0.4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_every_process_of_a_vms_user_ends_wherever_it_is() -> None:
    user = VM_USERS[9]
    processes = [subprocess.Popen([*become(user), "setsid", "--wait", "sleep", "300"]) for _ in range(2)]
    deadline = time.monotonic() + 10
    while any(os.stat(f"/proc/{process.pid}").st_uid != user for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    assert survivors.end(HOST, user)
    assert [process.wait(timeout=10) for process in processes] == [-9, -9]
