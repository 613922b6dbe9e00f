"""The agent reads which rules another program has removed from the kernel's notices."""

from __future__ import annotations

import struct

import pytest

from nqrust.agent.network.changes import concerns, removed

TABLE, CHAIN, RULE = 2, 5, 8
NUMBERS = {TABLE: 1, CHAIN: 3, RULE: 2}


def attribute(number: int, value: bytes) -> bytes:
    body = struct.pack("=HH", 4 + len(value), number) + value
    return body + b"\0" * (-len(body) % 4)


def notice(kind: int, name: str, subsystem: int = 10) -> bytes:
    first = attribute(1, b"filter\0") if kind != TABLE else b""
    body = struct.pack("=BBH", 2, 0, 0) + first + attribute(NUMBERS.get(kind, 2), name.encode() + b"\0")
    return struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, 0, 1, 4711) + body


@pytest.mark.parametrize(
    ("kind", "name", "heeded"),
    [
        (RULE, "FORWARD", True),
        (RULE, "NQR-INPUT", True),
        (CHAIN, "NQR-FORWARD", True),
        (TABLE, "nat", True),
        (RULE, "DOCKER", False),
        (RULE, "NQR-SOURCE", False),
        (RULE, "NQR-FWD", False),
        (RULE, "NQR-RELAY", False),
        (TABLE, "firewalld", False),
    ],
)
def test_only_removals_that_the_vm_network_relies_on_count(kind: int, name: str, heeded: bool) -> None:
    assert concerns(notice(kind, name)) is heeded


def test_one_datagram_may_tell_several_things() -> None:
    told = notice(RULE, "DOCKER") + notice(6, "FORWARD") + notice(RULE, "INPUT")
    assert list(removed(told)) == [(RULE, "DOCKER"), (RULE, "INPUT")]
    assert concerns(told)


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_datagram_that_is_cut_off_raises_nothing(cut: int) -> None:
    list(removed(notice(RULE, "FORWARD")[:cut]))


def test_other_subsystems_of_netfilter_are_ignored() -> None:
    assert not concerns(notice(RULE, "FORWARD", subsystem=1))
