"""IPv4, TCP and UDP as bytes (RFC 791, RFC 9293, RFC 768). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
MTU = 32768
SEGMENT = MTU - 40
"""Bytes of data in the largest TCP segment."""

Endpoint = tuple[bytes, int]
"""Address (4 bytes) and port."""


@dataclass(frozen=True)
class Packet:
    """A TCP segment or a UDP datagram. `sequence`, `acknowledgement`, `flags`, `window`, `scale` are TCP's; `scale` is
    None when the option is not there."""

    protocol: int
    source: Endpoint
    target: Endpoint
    data: bytes = b""
    sequence: int = 0
    acknowledgement: int = 0
    flags: int = 0
    window: int = 0
    scale: int | None = None


def parse(raw: bytes) -> Packet | None:
    """None for what is not carried: other protocols, IPv6, fragments, broken headers."""
    if len(raw) < 20 or raw[0] >> 4 != 4:
        return None
    header, total = (raw[0] & 15) * 4, int.from_bytes(raw[2:4], "big")
    if header < 20 or total > len(raw) or int.from_bytes(raw[6:8], "big") & 0x3FFF:
        return None
    source, target, body = raw[12:16], raw[16:20], raw[header:total]
    if raw[9] == UDP and len(body) >= 8:
        ports = struct.unpack_from("!HH", body)
        return Packet(UDP, (source, ports[0]), (target, ports[1]), body[8:])
    if raw[9] != TCP or len(body) < 20:
        return None
    from_port, to_port, sequence, acknowledgement, offset, flags, window = struct.unpack_from("!HHIIBBH", body)
    start = (offset >> 4) * 4
    if not 20 <= start <= len(body):
        return None
    return Packet(
        TCP, (source, from_port), (target, to_port), body[start:], sequence, acknowledgement, flags, window,
        _window_scale(body[20:start]),
    )  # fmt: skip


def _window_scale(options: bytes) -> int | None:
    position = 0
    while position < len(options) and options[position] != 0:
        if options[position] == 1:
            position += 1
            continue
        length = options[position + 1] if position + 1 < len(options) else 0
        if length < 2:
            return None
        if options[position] == 3 and length == 3 and position + 2 < len(options):
            return options[position + 2]
        position += length
    return None


def build(packet: Packet) -> bytes:
    """With both checksums. A SYN carries the largest segment and, if set, the window scale."""
    if packet.protocol == UDP:
        body = struct.pack("!HHHH", packet.source[1], packet.target[1], 8 + len(packet.data), 0) + packet.data
        return _wrapped(packet, body, checksum_at=6)
    options = b""
    if packet.flags & SYN:
        options = struct.pack("!BBH", 2, 4, SEGMENT)
        if packet.scale is not None:
            options += struct.pack("!BBBB", 1, 3, 3, packet.scale)
    body = struct.pack(
        "!HHIIBBHHH", packet.source[1], packet.target[1], packet.sequence, packet.acknowledgement,
        (20 + len(options)) // 4 << 4, packet.flags, packet.window, 0, 0,
    ) + options + packet.data  # fmt: skip
    return _wrapped(packet, body, checksum_at=16)


def _wrapped(packet: Packet, body: bytes, *, checksum_at: int) -> bytes:
    source, target = packet.source[0], packet.target[0]
    pseudo = source + target + struct.pack("!BBH", 0, packet.protocol, len(body))
    found = checksum(pseudo + body) or 0xFFFF  # RFC 768: 0 would mean that there is none
    body = body[:checksum_at] + struct.pack("!H", found) + body[checksum_at + 2 :]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0x4000, 64, packet.protocol, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def checksum(data: bytes) -> int:
    """RFC 1071, as one division: the ones' complement sum of 16-bit words is the number modulo 65535."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data, "big")
    return ~(number % 0xFFFF or (0xFFFF if number else 0)) & 0xFFFF
