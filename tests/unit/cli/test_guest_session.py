"""`nqr vm exec` against a WebSocket server that answers as a guest: streams, codes, signals, terminals, and lost connections."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.sync.server import ServerConnection, serve

from nqrust.cli.vm.guest_session import Session, SessionFailed, connected
from nqrust.contract import guest
from nqrust.contract.guest import CloseCode, ExecRequest, Kind, message

PROGRAM = """
import sys
from nqrust.cli.vm.exec import attach
from nqrust.cli.failures import report
from nqrust.cli.outlet import ReaderGone
from nqrust.contract.guest import ExecRequest
url, command, *flags = sys.argv[1:]
request = ExecRequest(tuple(command.encode().split()), terminal=(24, 80) if "-t" in flags else None)
try:
    sys.exit(attach(url, "web1", None, request, interactive="-i" in flags))
except ReaderGone as gone:
    sys.exit(gone.exit_code)
except Exception as error:
    sys.exit(report(["vm", "exec"], error))
"""

STOPPED = """
import signal, sys, time
from nqrust.cli.vm.exec import attach
from nqrust.contract.guest import ExecRequest
def stop(*_):
    raise InterruptedError
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 1)
try:
    attach(sys.argv[1], "web1", None, ExecRequest((b"silent",)), interactive=False)
except InterruptedError:
    time.sleep(0.5)
    sys.exit(3)
"""


def answer(connection: ServerConnection) -> None:
    """A guest with a few commands."""
    first = connection.recv()
    assert isinstance(first, bytes) and first[0] == Kind.exec
    words = [word.decode() for word in ExecRequest.parse(first[1:]).command]
    if words[0] == "silent":
        list(connection)
        return
    if words[0] == "refused":
        connection.close(int(words[1]), "NQR-VMM-104: VM web1 does not run.")
        return
    if words[0] == "missing":
        connection.send(message(Kind.error, b"\1no such \x1b[2J file"))
        return
    connection.send(message(Kind.started))
    if words[0] == "both":
        connection.send(message(Kind.stdout, b"out"))
        connection.send(message(Kind.stderr, b"err"))
        connection.send(message(Kind.exit, b"\0\5"))
    elif words[0] == "pinged":
        for _ in range(4000):
            connection.send(message(Kind.stdout, b"x"))
        answered = connection.ping().wait(2)
        connection.send(message(Kind.exit, b"\0\0" if answered else b"\0\1"))
    elif words[0] == "flood":
        for _ in range(20):
            connection.send(message(Kind.stdout, bytes(guest.MAX_PAYLOAD)))
    elif words[0] == "killed":
        connection.send(message(Kind.exit, b"\1\t"))
    elif words[0] == "gone":
        connection.close(CloseCode.lost, "the connection to the guest ended")
    elif words[0] == "nonsense":
        connection.send("text")
    elif words[0] == "cat":
        _cat(connection)
    elif words[0] == "count":
        connection.send(message(Kind.stdout, str(_received(connection)).encode()))
        connection.send(message(Kind.exit, b"\0\0"))
    else:
        connection.send(message(Kind.stdout, b"ready\n"))
        for data in connection:
            assert isinstance(data, bytes)
            if data[0] in (Kind.signal, Kind.resize) or data[1:] == b"q":
                connection.send(message(Kind.stdout, repr((data[0], data[1:])).encode()))
            if data[0] == Kind.signal or data[1:] == b"q":
                connection.send(message(Kind.exit, b"\0\1"))
                return


def _cat(connection: ServerConnection) -> None:
    """Echo at the pace of the reader, and give no more credit than was sent."""
    credit, waiting, ended = guest.WINDOW, b"", False
    for data in connection:
        assert isinstance(data, bytes)
        if data[0] == Kind.credit:
            credit += guest.parse_credit(data[1:])
        elif data == message(Kind.stdin):
            ended = True
        else:
            waiting += data[1:]
            connection.send(message(Kind.credit, guest.credit(len(data) - 1)))
        now, waiting = waiting[:credit], waiting[credit:]
        for at in range(0, len(now), guest.MAX_PAYLOAD):
            connection.send(message(Kind.stdout, now[at : at + guest.MAX_PAYLOAD]))
        credit -= len(now)
        if ended and not waiting:
            break
    connection.send(message(Kind.exit, b"\0\0"))


def _received(connection: ServerConnection) -> int:
    """How much comes without any credit."""
    total = 0
    while True:
        try:
            data = connection.recv(timeout=1)
        except TimeoutError:
            return total
        total += len(data) - 1


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(answer, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/vms/web1/exec?ticket=t"
        server.shutdown()


def ran(url: str, command: str, *flags: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, url, command, *flags], input=data, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_stop_before_the_guest_answers_leaves_no_traceback_of_a_thread(url: str) -> None:
    """The threads of the session end after its pipe."""
    process = subprocess.Popen([sys.executable, "-c", STOPPED, url], stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(60) == 3 and b"Exception in thread" not in said, said


def test_output_error_and_code_are_those_of_the_command(url: str) -> None:
    assert ran(url, "both") == (5, b"out", b"err")
    assert ran(url, "killed")[0] == 137


def test_input_is_passed_on_with_i_and_not_without(url: str) -> None:
    data = os.urandom(1 << 20)
    assert ran(url, "cat", "-i", data=data) == (0, data, b"")
    assert ran(url, "cat", data=data) == (0, b"", b"")


def test_without_credit_no_more_than_a_window_is_sent(url: str) -> None:
    assert ran(url, "count", "-i", data=bytes(1 << 20))[:2] == (0, str(guest.WINDOW).encode())


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("refused 4409", 125, b"NQR-VMM-130"),
        ("refused 4504", 125, b"nqr vm logs web1"),
        ("gone", 125, b"NQR-VMM-131"),
        ("nonsense", 125, b"NQR-VMM-131"),
        ("missing", 127, b"NQR-VMM-132"),
    ],
)
def test_a_session_that_does_not_end_by_itself_has_a_code(url: str, command: str, code: int, words: bytes) -> None:
    found, out, err = ran(url, command)
    assert (found, out) == (code, b"") and words in err
    assert b"\x1b" not in err, "the guest's text moves no cursor"


def test_a_signal_goes_to_the_command(url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, url, "wait"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, repr((int(Kind.signal), b"\x0f")).encode())


def test_a_terminal_is_raw_and_its_new_size_is_told(url: str) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, url, "wait", "-t", "-i"])
    said = b""

    def read_until(wanted: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 20
        while wanted not in said and time.monotonic() < deadline:
            if select.select([fd], [], [], 0.5)[0]:
                said += os.read(fd, 4096)
        assert wanted in said, said

    import fcntl
    import struct
    import termios

    read_until(b"ready")
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    read_until(repr((int(Kind.resize), guest.size(50, 132))).encode())
    os.write(fd, b"q")
    read_until(repr((int(Kind.stdin), b"q")).encode())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_reader_that_is_gone_ends_it(url: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", PROGRAM, url, "both"], stdout=write, stderr=subprocess.PIPE, timeout=30)
    os.close(write)
    assert done.returncode == 125 and b"Traceback" not in done.stderr


def test_a_terminal_that_has_gone_ends_it(url: str) -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, "both"], stdout=theirs, stdin=theirs, stderr=subprocess.PIPE, timeout=30
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (125, b"")


def test_a_reader_that_pauses_keeps_the_connection_alive(url: str) -> None:
    """The manager pings. `nqr vm exec web1 -- dmesg | less` must answer it."""
    go_on, got = threading.Event(), bytearray()

    def slow(kind: Kind, data: bytes) -> None:
        go_on.wait(30)
        got.extend(data)

    with connected(url, "web1", None) as connection:
        session = Session(connection, "web1", slow)
        session.start(ExecRequest((b"pinged",)))
        threading.Timer(3, go_on.set).start()
        assert session.wait() == 0, "the server saw its ping answered while nobody read"
    assert got == b"x" * 4000


def test_more_output_than_was_asked_for_ends_it(url: str) -> None:
    hold = threading.Event()
    with connected(url, "web1", None) as connection:
        session = Session(connection, "web1", lambda kind, data: hold.wait(30) and None)
        session.start(ExecRequest((b"flood",)))
        threading.Timer(2, hold.set).start()
        with pytest.raises(SessionFailed, match="NQR-VMM-131"):
            session.wait()


def test_a_request_that_is_too_long_is_refused_before_it_is_sent(url: str) -> None:
    with connected(url, "web1", None) as connection, pytest.raises(SessionFailed, match="NQR-VMM-130"):
        Session(connection, "web1", lambda kind, data: None).start(ExecRequest((b"a" * 40_000,)))


def test_a_manager_that_is_away_has_a_code() -> None:
    with pytest.raises(SessionFailed, match="NQR-VMM-130"), connected("ws://127.0.0.1:9/x", "web1", None):
        pass
