"""Packets as bytes, against examples and against the rule of checksums: with it in place, the sum is zero."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from nqrust.installer.rehearsal.packets import ACK, PSH, SYN, TCP, UDP, Packet, build, checksum, parse

HERE, THERE = (b"\x0a\x00\x00\x02", 40000), (b"\xc0\x00\x02\x07", 443)


def test_the_checksum_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"\x01") == checksum(b"\x01\x00")


@given(st.binary(max_size=2000), st.sampled_from([TCP, UDP]), st.integers(0, 2**32 - 1))
def test_what_is_built_is_read_back_and_its_checksums_hold(data: bytes, protocol: int, number: int) -> None:
    more = {"sequence": number, "acknowledgement": number, "flags": ACK | PSH, "window": 7} if protocol == TCP else {}
    packet = Packet(protocol, HERE, THERE, data, **more)
    raw = build(packet)
    assert parse(raw) == packet
    assert checksum(raw[:20]) == 0
    pseudo = raw[12:20] + struct.pack("!BBH", 0, protocol, len(raw) - 20)
    assert checksum(pseudo + raw[20:]) == 0


def test_a_syn_tells_its_window_scale() -> None:
    assert parse(build(Packet(TCP, HERE, THERE, flags=SYN, scale=6))) == Packet(TCP, HERE, THERE, flags=SYN, scale=6)


def test_what_is_not_carried_is_no_packet() -> None:
    whole = build(Packet(UDP, HERE, THERE, b"x" * 40))
    fragment = whole[:6] + struct.pack("!H", 0x2000) + whole[8:]
    icmp = whole[:9] + b"\x01" + whole[10:]
    for raw in (b"", whole[:19], whole[:30], b"\x60" + whole[1:], fragment, icmp):
        assert parse(raw) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    parse(raw)
    parse(b"\x45" + raw)
