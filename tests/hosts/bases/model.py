"""What a base machine is, and how one comes up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.hosts.machine import Machine

INIT = ("systemd", "systemd-sysv", "dbus")
"""What makes a machine one with systemd; a container image has none of it."""


@dataclass(frozen=True)
class BaseMachine:
    """`name`: in test ids. `says`: one line for a person. `packages`: of its tree, besides those of the init system.

    `setup` runs once in the machine after its first boot, with $ADDRESS and $GATEWAY of its network card; then it
    shuts down, its disk is frozen, and it boots again, so that what does not survive a reboot is not part of it.
    `ready` is a command that succeeds when the neighbour has come up.
    `busy` is what the machine does by itself as the install begins.
    `meanwhile` is what its administrator does later: reload or restart the neighbour. VMs must live with that.
    `unified`: with control groups of version 2 alone, as Machine has it.
    `moves` matches "category thing" of the fingerprint that changes while nobody installs anything (with re.search).
    `neighbour` prints what the product must not change, the same before, during and after.
    `addresses`: how the addresses of VMs begin, where the default network is in use.
    `inits`: the ways it can run. `every_run`: the one of them that each run of the tests has; the others wait for --all.
    """

    name: str
    says: str
    packages: tuple[str, ...]
    suite: str = "bookworm"
    setup: str = ""
    ready: str = "true"
    neighbour: str = "true"
    busy: str = ""
    meanwhile: str = ""
    moves: str = ""
    addresses: str = ""
    unified: bool = False
    inits: tuple[str, ...] = ("systemd", "plain")
    every_run: str = ""

    def tree_packages(self, init: str) -> tuple[str, ...]:
        return (*INIT, *self.packages) if init == "systemd" else self.packages


@dataclass(frozen=True)
class LivedIn:
    """A base machine that is up. `seconds`: what it took to get there."""

    kind: BaseMachine
    host: Machine
    seconds: float

    def neighbour(self) -> str:
        """What must stay the same, as text."""
        return self.host.run(f"set -e\n{self.kind.neighbour}").stdout

    def moves(self, category: str, thing: str) -> bool:
        """Whether the neighbour itself changes that part of the fingerprint."""
        return bool(self.kind.moves) and re.search(self.kind.moves, f"{category} {thing}") is not None

    def await_neighbour(self) -> None:
        """After a boot: wait until the neighbour is up."""
        self.host.wait_for(f"set -e\n{self.kind.ready}", timeout=90)


@contextmanager
def lived_in(kind: BaseMachine, init: str) -> Iterator[LivedIn]:
    """Bring one up: its tree, its set-up, a reboot."""
    started = time.monotonic()
    with Machine(suite=kind.suite, systemd=init == "systemd", packages=kind.tree_packages(init), unified=kind.unified) as host:
        if kind.setup:
            env = {"ADDRESS": host.address, "GATEWAY": host.network.gateway}
            host.run(f"set -eu\n{kind.setup}", env=env, timeout=300)
            host.snapshot()
        made = LivedIn(kind, host, time.monotonic() - started)
        made.await_neighbour()
        yield made
