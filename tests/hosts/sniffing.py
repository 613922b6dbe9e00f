"""What a sniffer on the network of the test hosts sees (packet(7))."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter, defaultdict
from types import TracebackType

_PROMISCUOUS = struct.pack("iHH8s", 0, 1, 0, b"")  # struct packet_mreq with PACKET_MR_PROMISC; the index comes later
_SOL_PACKET, _ADD_MEMBERSHIP = 263, 1
_ETHERNET, _IPV4, _TCP = 14, 0x0800, 6

Flow = tuple[str, int, str, int]
"""Source address and port, destination address and port."""


class Sniffer:
    """Collects what TCP connections over `interface` carry, while it is entered."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.bind((interface, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE
        index = struct.pack("i", socket.if_nametoindex(interface))
        self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, index + _PROMISCUOUS[4:])
        self._socket.settimeout(0.2)
        self._flows: dict[Flow, list[bytearray]] = defaultdict(list)
        self._next: dict[Flow, int] = {}
        self._broken: set[tuple[Flow, int]] = set()
        self.carried: Counter[int] = Counter()
        """Source port -> bytes, those of broken streams too."""
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._collect)

    def __enter__(self) -> Sniffer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()

    def to(self, port: int) -> list[tuple[Flow, bytes]]:
        """Return both directions of the connections to `port` that carried something, each until a frame was lost."""
        found = [(flow, data) for flow, parts in list(self._flows.items()) if port in (flow[1], flow[3]) for data in parts]
        return [(flow, bytes(data)) for flow, data in found if data]

    def _collect(self) -> None:
        while not self._ends.is_set():
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        packet = frame[_ETHERNET:]
        if struct.unpack_from("!H", frame, 12)[0] != _IPV4 or len(packet) < 20 or packet[9] != _TCP:
            return
        segment = packet[(packet[0] & 15) * 4 : struct.unpack_from("!H", packet, 2)[0]]  # without Ethernet's padding
        source, destination, sequence = struct.unpack_from("!HHI", segment)
        data = segment[(segment[12] >> 4) * 4 :]
        flow = (socket.inet_ntoa(packet[12:16]), source, socket.inet_ntoa(packet[16:20]), destination)
        if segment[13] & 2:  # SYN: a new connection on these ports
            self._next[flow] = (sequence + 1) % 2**32
            self._flows[flow].append(bytearray())
            return
        if flow not in self._next or not data or (sequence - self._next[flow]) % 2**32 >= 2**31:
            return  # it was seen before
        self.carried[flow[1]] += len(data)
        if sequence != self._next[flow]:  # the kernel had no room for a frame: what follows cannot be read as a stream
            self._broken.add((flow, len(self._flows[flow])))
        if (flow, len(self._flows[flow])) not in self._broken:
            self._flows[flow][-1] += data
        self._next[flow] = (sequence + len(data)) % 2**32


def is_tls(data: bytes) -> bool:
    """Return whether these bytes are records of TLS (RFC 8446, 5.1) alone. The last one may be cut."""
    at = 0
    while at + 5 <= len(data):
        kind, version, length = struct.unpack_from("!BHH", data, at)
        if kind not in (20, 21, 22, 23) or version not in (0x0301, 0x0302, 0x0303) or length > 2**14 + 256:
            return False
        at += 5 + length
    return at > 0
