"""The clone's way out, with a test in the place of the clone's kernel and real sockets outside."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from nqrust.installer.rehearsal.outlet import Outlet
from nqrust.installer.rehearsal.packets import ACK, FIN, RST, SYN, TCP, UDP, Packet, build, parse

CLONE = (b"\x0a\x09\x08\x07", 40000)
LOOPBACK = b"\x7f\x00\x00\x01"


class Kernel:
    """The clone's end of the card."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.here.settimeout(10)
        self.redirected: dict[tuple[str, int], tuple[str, int]] = {}
        device = os.dup(self.there.fileno())
        self.thread = threading.Thread(target=Outlet(device, self.redirected, frozenset({"127.9.9.9"})).run, daemon=True)
        self.thread.start()

    def send(self, packet: Packet) -> None:
        self.here.send(build(packet))

    def receive(self) -> Packet:
        packet = parse(self.here.recv(1 << 16))
        assert packet is not None
        return packet

    def open(self, port: int, window: int = 65535) -> Packet:
        self.send(Packet(TCP, CLONE, (LOOPBACK, port), sequence=1000, flags=SYN, window=window, scale=7))
        return self.receive()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.here.close()
    made.there.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


def test_a_connection_is_carried_both_ways_and_closed_in_order(kernel: Kernel, server: socket.socket) -> None:
    port = server.getsockname()[1]
    answer = kernel.open(port)
    assert answer.flags == SYN | ACK and answer.acknowledgement == 1001 and answer.scale is not None
    outside = (LOOPBACK, port)
    mine, theirs = 1001, (answer.sequence + 1) % 2**32
    kernel.send(Packet(TCP, CLONE, outside, b"hello", mine, theirs, ACK, 500))
    peer, _ = server.accept()
    peer.settimeout(10)
    assert peer.recv(100) == b"hello"
    assert kernel.receive().acknowledgement == mine + 5
    kernel.send(Packet(TCP, CLONE, outside, b"hello", mine, theirs, ACK, 500))  # again: not carried twice
    assert kernel.receive().acknowledgement == mine + 5
    peer.sendall(b"welcome")
    told = kernel.receive()
    assert told.data == b"welcome" and told.sequence == theirs
    theirs += 7
    kernel.send(Packet(TCP, CLONE, outside, b"", mine + 5, theirs, FIN | ACK, 500))
    assert kernel.receive().acknowledgement == mine + 6
    assert peer.recv(100) == b""
    peer.close()
    assert kernel.receive().flags == FIN | ACK
    kernel.send(Packet(TCP, CLONE, outside, b"", mine + 6, theirs + 1, ACK, 500))
    kernel.send(Packet(TCP, CLONE, outside, b"late", mine + 6, theirs + 1, ACK, 500))
    assert kernel.receive().flags == RST


def test_more_than_the_window_is_held_back_and_what_is_lost_comes_again(kernel: Kernel, server: socket.socket) -> None:
    port = server.getsockname()[1]
    answer = kernel.open(port, window=128)
    outside, theirs = (LOOPBACK, port), (answer.sequence + 1) % 2**32
    peer, _ = server.accept()
    peer.sendall(bytes(range(200)))
    assert kernel.receive().data == bytes(range(128))
    again = kernel.receive()  # nothing was acknowledged
    assert again.data == bytes(range(128)) and again.sequence == theirs
    kernel.send(Packet(TCP, CLONE, outside, b"", 1001, (theirs + 128) % 2**32, ACK, 1))
    assert kernel.receive().data == bytes(range(128, 200))
    peer.close()


def test_nobody_there_is_a_reset(kernel: Kernel, server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    assert kernel.open(port).flags & RST


def test_services_of_the_host_itself_are_not_reached(kernel: Kernel) -> None:
    with socket.create_server(("127.9.9.9", 0)) as service:
        port = service.getsockname()[1]
        kernel.send(Packet(TCP, CLONE, (socket.inet_aton("127.9.9.9"), port), sequence=1, flags=SYN, window=100))
        answer = kernel.receive()
    assert answer.flags & RST and answer.acknowledgement == 2


def test_a_gap_is_answered_with_what_is_missing(kernel: Kernel, server: socket.socket) -> None:
    port = server.getsockname()[1]
    answer = kernel.open(port)
    kernel.send(Packet(TCP, CLONE, (LOOPBACK, port), b"later", 1011, answer.sequence + 1, ACK, 500))
    told = kernel.receive()
    assert told.acknowledgement == 1001 and told.flags == ACK


def test_datagrams_go_out_and_the_answer_comes_from_the_address_that_was_asked(kernel: Kernel) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 0))
        resolver.settimeout(10)
        asked = (socket.inet_aton("169.254.77.53"), 53)
        kernel.redirected["169.254.77.53", 53] = resolver.getsockname()
        kernel.send(Packet(UDP, CLONE, asked, b"where is example.com"))
        data, source = resolver.recvfrom(100)
        assert data == b"where is example.com"
        resolver.sendto(b"192.0.2.1", source)
        answer = kernel.receive()
    assert answer == Packet(UDP, asked, CLONE, b"192.0.2.1")
