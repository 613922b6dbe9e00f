"""Which connection goes for a new one."""

from __future__ import annotations

from typing import Any

import pytest

from nqrust.serving.connections import Bounds, Connections
from nqrust.serving.sources import LOOPBACK, connection_group


class Fake:
    def __init__(self, waiting: bool = False, served: bool = False) -> None:
        self.waiting, self.served, self.gone, self.evicted = waiting, served, False, False

    def evict(self) -> None:
        self.evicted = self.gone = True


def full(bounds: Bounds, *groups: str, **state: Any) -> tuple[Connections, list[Fake]]:
    connections, fakes = Connections(bounds), [Fake(**state) for _ in groups]
    assert all(connections.admit(fake, group) for fake, group in zip(fakes, groups, strict=True))
    return connections, fakes


def test_connections_at_work_are_never_closed_for_a_new_one() -> None:
    connections, fakes = full(Bounds(per_source=2), "a", "a")
    assert not connections.admit(Fake(), "a") and connections.admit(Fake(), "b")
    assert not any(fake.evicted for fake in fakes)


def test_source_with_the_most_connections_makes_room_if_nobody_waits() -> None:
    connections, (first, second, other) = full(Bounds(connections=3, per_source=3), "a", "a", "b")
    assert not connections.admit(Fake(), "b") and not connections.admit(Fake(), "a"), "an equal share"
    assert connections.admit(Fake(), "c") and first.evicted and not second.evicted and not other.evicted
    assert not connections.admit(Fake(), "d") and len(connections) == 3


def test_the_oldest_client_that_sent_no_request_makes_room() -> None:
    connections, (idle, first, second) = full(Bounds(per_source=3), "a", "a", "a", waiting=True)
    idle.served = True
    for expected in (first, second):
        assert connections.admit(Fake(), "a") and expected.evicted
    assert connections.admit(Fake(), "a") and idle.evicted
    assert not connections.admit(Fake(), "a") and len(connections) == 3


def test_the_total_takes_from_the_source_with_the_most() -> None:
    connections, fakes = full(Bounds(connections=4), "honest", "a", "a", "a", waiting=True)
    assert connections.admit(Fake(), "new")
    assert [fake.evicted for fake in fakes] == [False, True, False, False]


def test_a_source_cannot_push_out_another_one() -> None:
    connections, (other, own) = full(Bounds(per_source=1), "b", "a", waiting=True)
    assert connections.admit(Fake(), "a") and own.evicted and not other.evicted


def test_room_of_ended_connections_is_found_again() -> None:
    connections, (first, second) = full(Bounds(per_source=2), "a", "a")
    first.gone = True
    assert connections.admit(Fake(), "a") and not connections.admit(Fake(), "a")
    connections.remove(second)
    connections.remove(second)
    assert connections.admit(Fake(), "a") and len(connections) == 2


def test_this_machine_has_a_limit_of_its_own() -> None:
    connections, _ = full(Bounds(per_source=1, local=2), LOOPBACK, LOOPBACK)
    assert not connections.admit(Fake(), LOOPBACK)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("127.0.0.1", LOOPBACK),
        ("127.9.9.9", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::"),
        ("local", "local"),
    ],
)
def test_sources_of_connections(address: str, group: str) -> None:
    assert connection_group(address) == group


def test_documented_limits_are_the_ones_in_force() -> None:
    from nqrust.agent.api.listeners import BOUNDS
    from nqrust.serving import bodies
    from nqrust.serving.protocol import HEADER_BYTES

    bounds = Bounds()
    assert (bounds.connections, bounds.per_source, bounds.local, BOUNDS.per_source) == (1000, 200, 500, 500)
    assert (HEADER_BYTES, bounds.head, bodies.SECONDS) == (16 * 1024, 10, 30) and bounds.body > bodies.SECONDS
