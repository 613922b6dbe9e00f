"""Fixtures for tests on real machines. tests/conftest.py gives everything here the marker `hosts`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts.machine import Machine, TestNetwork


@dataclass(frozen=True)
class TwoHosts:
    """Two pristine systemd hosts on one bridge."""

    network: TestNetwork
    first: Machine
    second: Machine

    def __iter__(self) -> Iterator[Machine]:
        return iter((self.first, self.second))


@pytest.fixture
def network() -> Iterator[TestNetwork]:
    """A bridge with a way out; pass it to several Machines."""
    with TestNetwork() as made:
        yield made


@pytest.fixture
def debian12(network: TestNetwork) -> Iterator[Machine]:
    """A pristine Debian 12 whose PID 1 is systemd."""
    with Machine(network=network) as machine:
        yield machine


@pytest.fixture
def debian12_plain(network: TestNetwork) -> Iterator[Machine]:
    """The same tree on a machine without systemd as PID 1."""
    with Machine(network=network, systemd=False) as machine:
        yield machine


@pytest.fixture
def two_hosts(network: TestNetwork) -> Iterator[TwoHosts]:
    """Two pristine Debian 12 hosts that see each other: `first, second = two_hosts`."""
    with Machine(network=network) as first, Machine(network=network) as second:
        yield TwoHosts(network, first, second)
