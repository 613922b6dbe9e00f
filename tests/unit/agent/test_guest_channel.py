"""The connection to a guest agent, from an honest guest and from hostile ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.agent.errors import Conflict, Failed
from nqrust.agent.guest import channel as channels
from nqrust.agent.guest.channel import Channel, GuestLost, GuestSilent, Stream
from nqrust.agent.guest.channels import Channels
from nqrust.contract import guest
from nqrust.contract.guest import WINDOW, Frames, Kind, ProtocolError

Guest = Callable[[socket.socket], None]


class Peer:
    """A guest's end: raw bytes out, frames in."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.link, self._frames, self._got = link, Frames(), list[tuple[int, int, bytes]]()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.link, data)

    async def frame(self) -> tuple[int, int, bytes]:
        while not self._got:
            data = await asyncio.get_running_loop().sock_recv(self.link, 1 << 16)
            if not data:
                raise EOFError
            self._got += self._frames.feed(data)
        return self._got.pop(0)

    async def welcome(self, before: bytes = b"") -> None:
        kind, _, payload = await self.frame()
        assert (kind, payload[0]) == (Kind.hello, guest.VERSION)
        await self.send(before + guest.welcome(payload[1:]))


@pytest.fixture
async def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel, peer = Channel(ours), Peer(theirs)
    yield channel, peer
    if hasattr(channel, "_task"):
        await channel.close()
    theirs.close()


async def opened(pair: tuple[Channel, Peer], before: bytes = b"") -> tuple[Channel, Peer, Stream]:
    channel, peer = pair
    await asyncio.gather(channel.open(), peer.welcome(before))
    return channel, peer, channel.stream()


async def test_a_session_from_request_to_exit(pair: Any) -> None:
    channel, peer, stream = await opened(pair)
    await channel.send(Kind.exec, stream.number, b"request")
    assert await peer.frame() == (Kind.exec, stream.number, b"request")
    await stream.send(Kind.stdin, b"in")
    assert await peer.frame() == (Kind.stdin, stream.number, b"in")
    for kind, payload in ((Kind.started, b""), (Kind.stdout, b"out"), (Kind.stderr, b"err"), (Kind.exit, b"\0\3")):
        await peer.send(guest.frame(kind, stream.number, payload))
        assert await stream.receive() == (kind, payload)
    assert stream.over and channel.sessions == 0
    await stream.close()


async def test_half_frames_of_an_earlier_connection_are_passed_over(pair: Any) -> None:
    stale = guest.frame(Kind.stdout, 5, b"x" * 9000)
    _, peer, stream = await opened(pair, stale * 20 + stale[:700])
    await peer.send(guest.frame(Kind.stdout, stream.number, b"new"))
    assert await stream.receive() == (Kind.stdout, b"new")


@pytest.mark.parametrize(
    "frame",
    [
        lambda n: guest.frame(Kind.stdout, n, b""),
        lambda n: guest.frame(Kind.stdout, n, b"x" * guest.MAX_PAYLOAD) * 9,
        lambda n: guest.frame(Kind.credit, n, guest.credit(1)),
        lambda n: guest.frame(Kind.credit, n, b"\0"),
        lambda n: guest.frame(Kind.started, n) * 2,
        lambda n: guest.frame(Kind.started, n, b"x"),
        lambda n: guest.frame(Kind.exit, n, b"\7\7"),
        lambda n: guest.frame(Kind.error, n, b"\xff"),
        lambda n: guest.frame(Kind.stdin, n, b"x"),
        lambda n: guest.frame(Kind.exec, n, b"x"),
        lambda n: bytes([200]) + guest.frame(Kind.exit, n, b"")[1:],
        lambda n: guest.frame(Kind.stdout, n ^ 1, b"x" * 600) * 2,
        lambda n: b"\7" + n.to_bytes(4, "big") + b"\xff\xff",
        lambda n: bytes(2 * len(guest.RESYNC)),
    ],
)
async def test_the_first_frame_that_should_not_be_there_ends_the_connection(pair: Any, frame: Any) -> None:
    channel, peer, stream = await opened(pair)
    await peer.send(frame(stream.number))
    with pytest.raises(GuestLost, match="breaks the protocol"):
        while True:
            await asyncio.wait_for(stream.receive(), 5)
    assert channel.ended
    with pytest.raises(GuestLost):
        await stream.send(Kind.stdin, b"x")
    with pytest.raises(GuestLost):
        channel.stream()


async def test_single_bytes_take_no_more_room_than_the_window(pair: Any) -> None:
    _, peer, stream = await opened(pair)
    for _ in range(40):
        await peer.send(guest.frame(Kind.stdout, stream.number, b"x") * 1000)
        await asyncio.sleep(0)
    while stream.output > WINDOW - 40_000:
        await asyncio.sleep(0.01)
    assert len(stream._got) == 2, "40,000 frames are kept as two"


async def test_single_bytes_are_taken_with_pauses(pair: Any) -> None:
    """Everything else of the agent waits while they are taken."""
    _channel, peer, stream = await opened(pair)
    began = asyncio.get_running_loop().time()
    sending = asyncio.create_task(peer.send(guest.frame(Kind.stdout, stream.number, b"x") * 40_000))
    while stream.output > WINDOW - 40_000:
        await asyncio.sleep(0.001)
    await sending
    assert asyncio.get_running_loop().time() - began > 40_000 * channels._PAUSE * 0.9


async def test_single_bytes_of_output_and_error_in_turn_take_no_more_room(pair: Any) -> None:
    _, peer, stream = await opened(pair)
    both = guest.frame(Kind.stdout, stream.number, b"o") + guest.frame(Kind.stderr, stream.number, b"e")
    for _ in range(40):
        await peer.send(both * 500)
        await asyncio.sleep(0)
    while stream.output > WINDOW - 40_000:
        await asyncio.sleep(0.01)
    assert len(stream._got) < 1100
    got = {Kind.stdout: b"", Kind.stderr: b""}
    while stream._got:
        kind, data = await stream.receive()
        if kind in got:
            got[kind] += data
    assert got == {Kind.stdout: b"o" * 20_000, Kind.stderr: b"e" * 20_000}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.stdin, b"x" * (WINDOW + 1)),
        (Kind.credit, guest.credit(1)),
        (Kind.credit, b""),
        (Kind.resize, b"x"),
        (Kind.signal, b""),
        (Kind.hello, b""),
        (Kind.close, b""),
    ],
)
async def test_a_viewer_sends_no_more_than_it_may(pair: Any, kind: Kind, payload: bytes) -> None:
    _, _, stream = await opened(pair)
    with pytest.raises(ProtocolError):
        await stream.send(kind, payload)


async def test_a_closed_session_is_told_and_its_last_output_ignored(pair: Any) -> None:
    channel, peer, stream = await opened(pair)
    other = channel.stream()
    await stream.close()
    assert await peer.frame() == (Kind.close, stream.number, b"")
    await peer.send(guest.frame(Kind.stdout, stream.number, b"x" * 30_000) * 8 + guest.frame(Kind.exit, stream.number, b"\1\1"))
    await peer.send(guest.frame(Kind.exit, other.number, b"\0\0"))
    assert await other.receive() == (Kind.exit, b"\0\0")


async def test_a_guest_agent_that_started_again_ends_the_sessions(pair: Any) -> None:
    _, peer, stream = await opened(pair)
    half = guest.frame(Kind.stdout, stream.number, b"y" * 3000)[:50]
    await peer.send(half + guest.RESYNC + guest.frame(Kind.boot, 0))
    with pytest.raises(GuestLost, match="started again"):
        while True:
            await asyncio.wait_for(stream.receive(), 5)


async def test_a_guest_that_stops_ends_the_sessions(pair: Any) -> None:
    _, peer, stream = await opened(pair)
    peer.link.close()
    with pytest.raises(GuestLost, match="VM stopped"):
        await asyncio.wait_for(stream.receive(), 5)


async def test_a_guest_without_an_agent_is_silent_in_time(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "GREETING", 0.1)
    with pytest.raises(GuestSilent):
        await pair[0].open()
    assert pair[0].ended


async def test_a_guest_that_sends_without_end_and_no_answer_is_left(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_STALE", 100_000)
    channel, peer = pair

    async def flood() -> None:
        while True:
            await peer.send(b"x" * 4096)

    task = asyncio.create_task(flood())
    with pytest.raises(GuestSilent, match="no end"):
        await channel.open()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_guest_that_takes_nothing_is_left(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_STUCK", 0.1)
    channel, _, first = await opened(pair)
    with pytest.raises(GuestLost, match="takes no input"):
        while True:
            await first.send(Kind.stdin, b"x" * guest.MAX_PAYLOAD)
            first = channel.stream() if first._input < guest.MAX_PAYLOAD else first


def of_a_vm(connect: Callable[[], socket.socket]) -> Channels:
    """The channels of a host whose only VM is reached by `connect`."""
    driver = SimpleNamespace(connect_guest=lambda directory: connect())
    store = SimpleNamespace(read=lambda vm: SimpleNamespace(guest_exec=True))
    service: Any = SimpleNamespace(running=lambda vm: ("/vm", driver), store=store)

    async def run(work: Callable[[], Any]) -> Any:
        return work()

    return Channels(service, run)


async def test_a_guest_that_does_not_listen_yet_is_asked_again() -> None:
    ours, theirs = socket.socketpair()
    answers: list[socket.socket | OSError] = [ConnectionResetError(), ConnectionRefusedError(), ours]

    def connect() -> socket.socket:
        found = answers.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    peer = Peer(theirs)
    hosts = of_a_vm(connect)
    stream, _ = await asyncio.wait_for(asyncio.gather(hosts.start("v1", guest.ExecRequest()), peer.welcome()), 4)
    assert (await peer.frame())[:2] == (Kind.exec, stream.number) and not answers
    theirs.close()
    with pytest.raises(GuestLost):
        await asyncio.wait_for(stream.receive(), 5)


async def test_a_guest_that_never_listens_is_silent_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "GREETING", 0.2)

    def refused() -> socket.socket:
        raise ConnectionRefusedError

    with pytest.raises(Failed) as failed:
        await asyncio.wait_for(of_a_vm(refused).start("v1", guest.ExecRequest()), 5)
    assert failed.value.code == "NQR-VMM-125"


async def test_a_vm_that_is_gone_leaves_nothing_behind() -> None:
    def refuse() -> socket.socket:
        raise OSError("no port")

    found = of_a_vm(refuse)
    for number in range(50):
        with pytest.raises(Conflict):
            await found.start(f"vm{number}", guest.ExecRequest())
    assert len(found._opening) == 0
