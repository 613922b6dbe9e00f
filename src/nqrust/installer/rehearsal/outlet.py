"""The clone's way out: its network card is a TUN device, and what it sends there is carried on by plain sockets of the
host. No rule, bridge, route or forwarding is made on the host, and nothing can connect to the clone.

TCP and UDP over IPv4; so does the installer's traffic (package manager, index, resolver).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from nqrust.installer.rehearsal.packets import ACK, MTU, RST, SYN, TCP, UDP, Endpoint, Packet, build, parse
from nqrust.installer.rehearsal.tcp import Connection

_QUIET = 60.0  # seconds after which a UDP exchange is forgotten
_MOST = 512  # exchanges at a time


@dataclass
class Exchange:
    """Datagrams between one port of the clone and one outside."""

    clone: Endpoint
    outside: Endpoint
    socket: socket.socket
    used: float


@dataclass
class Outlet:
    """`device`: the TUN's descriptor. `redirected`: address and port that stand for others. `refused`: addresses to
    which nothing is carried, those of the host itself: its services are not the clone's."""

    device: int
    redirected: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    connections: dict[tuple[Endpoint, Endpoint], Connection] = field(default_factory=dict)
    exchanges: dict[tuple[Endpoint, Endpoint], Exchange] = field(default_factory=dict)

    def run(self) -> None:
        """Until the device is gone."""
        os.set_blocking(self.device, False)
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.device, selectors.EVENT_READ, self)
            swept = time.monotonic()
            while True:
                for key, mask in waiting.select(0.5):
                    if key.data is self:
                        if not self._packets():
                            return
                    elif isinstance(key.data, Connection):
                        self._moved(key.data, mask)
                    else:
                        self._datagram(key.data)
                now = time.monotonic()
                if now - swept > 0.5:
                    swept = now
                    for connection in self.connections.values():
                        connection.tick(now)
                    self._forget(now)
                self._watch(waiting)

    def _packets(self) -> bool:
        for _ in range(64):
            try:
                raw = os.read(self.device, MTU + 64)
            except BlockingIOError:
                return True
            except OSError:
                return False
            packet = parse(raw)
            if packet is not None:
                self._packet(packet)
        return True

    def _packet(self, packet: Packet) -> None:
        key, now = (packet.source, packet.target), time.monotonic()
        if packet.protocol == UDP:
            self._out(key, packet, now)
            return
        connection = self.connections.get(key)
        if connection is not None and not connection.over:
            connection.take(packet, now)
        elif packet.flags & SYN and not packet.flags & ACK:
            self._open(key, packet)
        elif not packet.flags & RST:
            self._send(Packet(TCP, packet.target, packet.source, b"", packet.acknowledgement, 0, RST))

    def _open(self, key: tuple[Endpoint, Endpoint], syn: Packet) -> None:
        where = self._where(syn.target)
        if where is None:
            sequence = (syn.sequence + 1) % (1 << 32)
            self._send(Packet(TCP, syn.target, syn.source, b"", 0, sequence, RST | ACK))
            return
        self.connections[key] = Connection.opening(syn, where, self._send)

    def _out(self, key: tuple[Endpoint, Endpoint], packet: Packet, now: float) -> None:
        exchange = self.exchanges.get(key)
        if exchange is None:
            where = self._where(packet.target)
            if where is None or len(self.exchanges) >= _MOST:
                return
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setblocking(False)
            try:
                made.connect(where)
            except OSError:
                made.close()
                return
            exchange = self.exchanges[key] = Exchange(packet.source, packet.target, made, now)
        exchange.used = now
        with contextlib.suppress(OSError):
            exchange.socket.send(packet.data)

    def _datagram(self, exchange: Exchange) -> None:
        with contextlib.suppress(OSError):
            data = exchange.socket.recv(MTU - 28)
            exchange.used = time.monotonic()
            self._send(Packet(UDP, exchange.outside, exchange.clone, data))

    def _moved(self, connection: Connection, mask: int) -> None:
        now = time.monotonic()
        if mask & selectors.EVENT_WRITE and not connection.over:
            connection.writable(now)
        if mask & selectors.EVENT_READ and not connection.over and connection.wants_read:
            connection.readable(now)

    def _where(self, target: Endpoint) -> tuple[str, int] | None:
        """Where a socket of the host connects to; None where it may not."""
        asked = socket.inet_ntoa(target[0]), target[1]
        return self.redirected.get(asked) or (None if asked[0] in self.refused else asked)

    def _send(self, packet: Packet) -> None:
        with contextlib.suppress(OSError):
            os.write(self.device, build(packet))

    def _forget(self, now: float) -> None:
        self.connections = {key: one for key, one in self.connections.items() if not one.over}
        for key, exchange in list(self.exchanges.items()):
            if now - exchange.used > _QUIET:
                exchange.socket.close()
                del self.exchanges[key]

    def _watch(self, waiting: selectors.BaseSelector) -> None:
        """Bring what is waited for in line with what each connection wants. A closed socket leaves by itself."""
        wanted: dict[Any, tuple[int, Connection | Exchange]] = {}
        for connection in self.connections.values():
            if not connection.over:
                mask = selectors.EVENT_READ * connection.wants_read | selectors.EVENT_WRITE * connection.wants_write
                if mask:
                    wanted[connection.socket.fileno()] = (mask, connection)
        for exchange in self.exchanges.values():
            wanted[exchange.socket.fileno()] = (selectors.EVENT_READ, exchange)
        for descriptor, key in list(waiting.get_map().items()):
            if key.data is self:
                continue
            new = wanted.get(descriptor)
            if new is None or new[1] is not key.data:
                waiting.unregister(descriptor)
        known = waiting.get_map()
        for descriptor, (mask, owner) in wanted.items():
            if descriptor not in known:
                waiting.register(descriptor, mask, owner)
            elif known[descriptor].events != mask:
                waiting.modify(descriptor, mask, owner)
