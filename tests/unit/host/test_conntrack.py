"""How the kernel's connections are read: an answer of the kernel byte for byte, and one that is none."""

from __future__ import annotations

import pytest

from nqrust.host.conntrack import _is, _messages, _named, attributes
from nqrust.host.port import Connections

# A connection of UDP from 192.0.2.9:40000 to port 5140 of 192.0.2.1, which leads to 10.0.0.20:514; with its id, 0x2a.
LED = bytes.fromhex(
    "34000180 14000180 08000100c0000209 08000200c0000201 1c000280 0500010011000000 060002009c400000 0600030014140000"
    "34000280 14000180 080001000a000014 08000200c0000209 1c000280 0500010011000000 0600020002020000 060003009c400000"
    "08000300 00000188 08000c00 0000002a"
)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (Connections("10.0.0.20"), True),
        (Connections("192.0.2.9"), True),
        (Connections("10.0.0.21"), False),
        (Connections("10.0.0.20", "udp", 5140, 514), True),
        (Connections("10.0.0.20", "tcp", 5140, 514), False),
        (Connections("10.0.0.20", "udp", 5141, 514), False),
        (Connections("10.0.0.20", "udp", 5140, 515), False),
        (Connections("192.0.2.9", "udp", 5140, 514), False),
    ],
)
def test_what_is_meant(wanted: Connections, meant: bool) -> None:
    assert _is(attributes(LED), wanted) is meant


def test_one_is_named_by_where_it_began_and_by_its_id() -> None:
    assert _named(attributes(LED)) == LED[:52] + LED[-8:]


@pytest.mark.parametrize("length", [0, 15, 21])
def test_an_answer_that_is_none_ends_the_reading(length: int) -> None:
    with pytest.raises(OSError):
        list(_messages(length.to_bytes(4, "little") + bytes(16)))
