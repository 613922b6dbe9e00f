"""A production install that the tests of several files begin from. Each worker makes it once, and each file boots its disk anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.hosts import product, warm
from tests.hosts.bases import BaseMachine, LivedIn
from tests.hosts.machine import Fingerprint, Machine, Result, Snapshot
from tests.hosts.main_job import Job
from tests.hosts.product import document, eventually, fetch

INSTALL = ("--mode", "production", "--non-interactive")
PRISTINE = BaseMachine(name="pristine", says="Debian 12 with systemd and no other software", packages=())


@dataclass(frozen=True)
class Ready:
    """`before`: the host without the product. `result`: of the install. `disk`: after it and a shutdown."""

    host: Machine
    before: Fingerprint
    result: Result
    disk: Snapshot

    def boot(self) -> None:
        """A reboot of the installed host, whatever happened since. Its name, address and machine-id stay the same."""
        self.host.restore(self.disk, boot=False)
        self.host.boot()
        # The device node belongs to the testing machine and outlives the disk. Here, udev would set it at each boot.
        self.host.run("! test -e /dev/kvm || { chown root:kvm /dev/kvm && chmod 660 /dev/kvm; }")
        eventually("the manager answers", lambda: fetch(self.host, "http://127.0.0.1:18080/health")[0] == 200, 120)
        eventually("the host is online", lambda: self.states() == ["online"], 60)

    def states(self) -> list[str]:
        return [host["state"] for host in document(self.host, "host", "ls")["items"]]

    def job(self) -> Job:
        lived = LivedIn(PRISTINE, self.host, 0.0)
        return Job(lived, self.before, lived.neighbour(), INSTALL, self.result)


@contextmanager
def installed() -> Iterator[Ready]:
    """Install, and leave the host switched off."""
    with Machine() as host:
        product.clone(host)
        before = host.fingerprint()
        warm.fill(host)
        result = product.bootstrap(host, *INSTALL)
        warm.keep(host)
        host.shutdown()
        yield Ready(host, before, result, host.snapshot())


@contextmanager
def booted(ready: Ready) -> Iterator[Ready]:
    """Switch it on for a file of tests, and off after it."""
    ready.boot()
    try:
        yield ready
    finally:
        ready.host.power_cut(boot=False)
