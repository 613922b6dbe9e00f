"""Fixtures for tests on real machines. tests/conftest.py gives everything here the marker `hosts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hosts.machine import Machine, TestNetwork

pytest.register_assert_rewrite("tests.hosts.main_job", "tests.hosts.product")

from tests.hosts import ready  # noqa: E402 (after the line above, which is about what it imports)

TOLD = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a line at the end of the run, whatever pytest captures, and from a worker of pytest-xdist too."""
    output: dict[str, list[str]] | None = getattr(request.config, "workeroutput", None)
    lines = request.config.stash.setdefault(TOLD, []) if output is None else output.setdefault("told", [])
    return lines.append


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist has ended: what it had to say."""
    node.config.stash.setdefault(TOLD, []).extend(getattr(node, "workeroutput", {}).get("told", []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


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


@pytest.fixture(scope="session")
def installed_once() -> Iterator[ready.Ready]:
    """The production install of this worker, switched off."""
    with ready.installed() as made:
        yield made


@pytest.fixture(scope="module")
def production(installed_once: ready.Ready) -> Iterator[ready.Ready]:
    """A host with a production install, booted for this file: for tests of what comes after an install."""
    with ready.booted(installed_once) as made:
        yield made
