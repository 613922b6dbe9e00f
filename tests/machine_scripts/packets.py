"""Runs beside the scripts that import it: frames and packets as a guest makes them up. RFC 791, 768, 8200."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess


def sh(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


def heard(tap: int) -> list[bytes]:
    """Return the frames that wait at an open TAP."""
    frames = []
    with contextlib.suppress(BlockingIOError):
        while True:
            frames.append(os.read(tap, 65536))
    return frames


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    to, of = (bytes.fromhex(mac.replace(":", "")) for mac in (target, source))
    return (to + of + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head + ends)) + ends + payload


def udp(sport: int, dport: int) -> bytes:
    return struct.pack("!HHHH", sport, dport, 12, 0) + b"said"


def ipv6(source: str, target: str, following: int, payload: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 255) + ends + payload


def checksum_v6(source: str, target: str, following: int, body: bytes) -> int:
    """Of a body whose own checksum is 0."""
    ends = ipv6(source, target, following, b"")[8:]
    return checksum(ends + struct.pack("!II", len(body), following) + body)


def syn_v6(source: str, target: str, port: int) -> bytes:
    body = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, 2, 8192, 0, 0)
    return body[:16] + struct.pack("!H", checksum_v6(source, target, 6, body)) + body[18:]
