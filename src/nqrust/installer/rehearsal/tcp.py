"""One TCP connection of the clone, carried on by a socket of the host. The clone's kernel is the only other side and
nothing is lost between the two but when it drops what it cannot take: so this is TCP without congestion control."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from nqrust.installer.rehearsal.packets import ACK, FIN, PSH, RST, SEGMENT, SYN, TCP, Endpoint, Packet

_SCALE = 6
_ROOM = 1 << 20  # bytes that wait for the outside at most; what is left of them is the window
_WAITING = 4 << 20  # bytes that wait for the clone at most
RESEND = 1.0  # seconds
_MODULUS = 1 << 32


def _ahead(one: int, other: int) -> int:
    """How far sequence number `one` is ahead of `other`; negative when behind."""
    return (one - other + (1 << 31)) % _MODULUS - (1 << 31)


@dataclass
class Connection:
    """`send` writes a packet to the clone. `address`: where the socket connects to."""

    clone: Endpoint
    outside: Endpoint
    address: tuple[str, int]
    send: Callable[[Packet], None]
    received: int  # next sequence number expected from the clone
    window: int = 0  # of the clone
    scale: int = 0
    own_scale: int | None = None  # offered only to who offers it
    socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    connected: bool = False
    over: bool = False
    sent: int = 0  # sequence number of the first byte of `unacknowledged`
    unacknowledged: bytearray = field(default_factory=bytearray)
    flying: int = 0  # how many of them are on their way
    outgoing: bytearray = field(default_factory=bytearray)
    clone_done: bool = False
    outside_done: bool = False
    fin_sent: bool = False
    told: float = 0.0  # when something was last sent or acknowledged

    @classmethod
    def opening(cls, syn: Packet, address: tuple[str, int], send: Callable[[Packet], None]) -> Connection:
        """Start to connect for a SYN of the clone."""
        made = cls(syn.source, syn.target, address, send, (syn.sequence + 1) % _MODULUS, syn.window, syn.scale or 0)
        made.own_scale = None if syn.scale is None else _SCALE
        made.sent = int.from_bytes(os.urandom(4), "big")
        made.socket.setblocking(False)
        made.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if made.socket.connect_ex(address) not in (0, errno.EINPROGRESS):
            made.abort()
        return made

    # --- what the event loop asks

    @property
    def wants_read(self) -> bool:
        return self.connected and not self.outside_done and len(self.unacknowledged) < _WAITING

    @property
    def wants_write(self) -> bool:
        return not self.connected or bool(self.outgoing)

    # --- from the outside

    def writable(self, now: float) -> None:
        if not self.connected:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.abort()
                return
            self.connected = True
            self.told = now
            self._send(SYN | ACK)
            self.sent = (self.sent + 1) % _MODULUS
            return
        try:
            written = self.socket.send(self.outgoing[: 1 << 18])
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        full = len(self.outgoing) > _ROOM // 2
        del self.outgoing[:written]
        if full and len(self.outgoing) <= _ROOM // 2:
            self._send(ACK)  # the window is open again
        self._half_close()
        self._end_if_done()

    def readable(self, now: float) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self.unacknowledged += data
        else:
            self.outside_done = True
        self.push(now)

    # --- from the clone

    def take(self, packet: Packet, now: float) -> None:
        if packet.flags & RST:
            self.close()
            return
        if packet.flags & SYN:
            if self.connected:  # our answer was lost
                self._send(SYN | ACK, sequence=(self.sent - 1) % _MODULUS)
            return
        if not self.connected:
            return
        if packet.flags & ACK:
            self._acknowledged(packet, now)
        if packet.data or packet.flags & FIN:
            self._data(packet)
        self.push(now)
        self._end_if_done()

    def _end_if_done(self) -> None:
        answered = self.fin_sent and not self.unacknowledged and self.flying == 0
        if answered and self.clone_done and not self.outgoing:
            self.close()

    def _acknowledged(self, packet: Packet, now: float) -> None:
        self.window = packet.window << self.scale
        fresh = _ahead(packet.acknowledgement, self.sent)
        if not 0 < fresh <= len(self.unacknowledged) + self.outside_done:
            return
        self.fin_sent = self.fin_sent or fresh > len(self.unacknowledged)
        self.sent = packet.acknowledgement
        self.flying = max(0, self.flying - fresh)
        self.told = now
        del self.unacknowledged[:fresh]  # a FIN counts one more than there is; del takes what there is

    def _data(self, packet: Packet) -> None:
        late = _ahead(self.received, packet.sequence)  # bytes of it that we have already
        if late < 0:
            self._send(ACK)  # something before it was dropped
            return
        fresh = packet.data[late:]
        if len(fresh) > _ROOM - len(self.outgoing):
            self._send(ACK)
            return
        if not self.clone_done:
            self.outgoing += fresh
            self.received = (self.received + len(fresh)) % _MODULUS
            if packet.flags & FIN and _ahead(packet.sequence + len(packet.data), self.received) == 0:
                self.clone_done = True
                self.received = (self.received + 1) % _MODULUS
        self._send(ACK)
        self._half_close()

    def _half_close(self) -> None:
        if self.clone_done and not self.outgoing:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return

    # --- to the clone

    def push(self, now: float) -> None:
        """Send what the clone's window has room for."""
        while not self.over and self.flying < len(self.unacknowledged):
            room = min(self.window - self.flying, SEGMENT, len(self.unacknowledged) - self.flying)
            if room <= 0:
                return
            data = bytes(self.unacknowledged[self.flying : self.flying + room])
            self._send(ACK | PSH, data=data, sequence=(self.sent + self.flying) % _MODULUS)
            self.flying += room
            self.told = now
        if self.outside_done and not self.fin_sent and self.flying == len(self.unacknowledged):
            self._send(FIN | ACK, sequence=(self.sent + self.flying) % _MODULUS)
            self.fin_sent = True
            self.flying += 1
            self.told = now

    def tick(self, now: float) -> None:
        """Send again what was not acknowledged, and ask a closed window."""
        if self.over or not self.connected or now - self.told < RESEND:
            return
        if self.unacknowledged or (self.fin_sent and self.flying):
            self.window = max(self.window, 1)
            self.flying, self.fin_sent = 0, False
            self.push(now)

    def _send(self, flags: int, *, data: bytes = b"", sequence: int | None = None) -> None:
        if sequence is None:
            sequence = (self.sent + self.flying) % _MODULUS
        window = max(0, _ROOM - len(self.outgoing))
        self.send(Packet(
            TCP, self.outside, self.clone, data, sequence, self.received, flags,
            min(0xFFFF, window if flags & SYN else window >> (self.own_scale or 0)), self.own_scale,
        ))  # fmt: skip

    def abort(self) -> None:
        if not self.over:
            self._send(RST | ACK)
        self.close()

    def close(self) -> None:
        self.over = True
        self.socket.close()
