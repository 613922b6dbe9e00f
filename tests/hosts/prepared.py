"""A host for quick installs: it has the distribution's packages, a warm installer cache, and one rolled-back
install. The tests look at the next install."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.hosts import killing, product
from tests.hosts.killing import INSTALL
from tests.hosts.machine import Fingerprint, Machine, Result, Running, Snapshot

UNITS = ("nqrust-network", "nqrust-dhcp", "nqrust-manager", "nqrust-agent")


@dataclass
class Bench:
    host: Machine
    before: Fingerprint
    ready: Snapshot
    command: tuple[str, ...]

    def run(self, *more: str, env: dict[str, str] | None = None) -> Result:
        return self.host.run([*self.command, *more], check=False, timeout=600, env=env)

    def start(self, *more: str) -> Running:
        return self.host.start([*self.command, *more])

    def rollback(self) -> Result:
        return self.host.run([INSTALL, "--non-interactive"], env={"NQR_VERB": "rollback"}, check=False, timeout=600)

    def reached(self, running: Running, want: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until the journal is so far."""
        deadline = time.monotonic() + 300
        while not want(killing.journal(self.host)):
            assert running.poll() is None, f"it ended before: {running.text()[-3000:]}"
            assert time.monotonic() < deadline, running.text()[-3000:]
            time.sleep(0.05)

    def difference(self) -> str:
        """What of the host is not as it was; nothing when all is."""
        found = self.before.diff(self.host.fingerprint())
        if self.host.exists("/var/lib/nqrust-microvm"):
            found.append(self.host.run("find /var/lib/nqrust-microvm").stdout)
        return "\n".join(found)

    def is_as_before(self) -> None:
        found = self.difference()
        assert not found, found

    def went_back(self, result: Result, code: str = "") -> None:
        """Exit 5; names the step, the cause and the cure; and nothing is left of it."""
        assert result.code == 5, result.describe()
        told = product.refusal(result)
        assert told and all(one.cure for one in told[-1:]), result.describe()
        if code:
            assert code in {one.code for one in told}, result.describe()
        self.is_as_before()

    def completes(self) -> None:
        """The same command again, now that the cause is gone: done, proven, and nothing to change any more."""
        result = self.run()
        assert result.code == 0, result.describe()
        again = self.run()
        assert again.code == 0 and "(0 changed" in again.stdout, again.describe()
        for unit in UNITS:
            assert self.host.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active", unit


def in_phase(name: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda records: any(r["type"] == "begin" and r["step"]["phase"] == name for r in records)


def at_step(kind: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda records: any(r["type"] == "begin" and r["step"]["kind"] == kind for r in records)


@contextmanager
def prepared_host(mode: str = "minimal") -> Iterator[Bench]:
    """`mode`: of the installs on it."""
    install = (INSTALL, "--mode", mode, "--non-interactive")
    with Machine() as host:
        product.clone(host)
        said = host.run([*install, "--dry-run"], timeout=900).stdout
        names = re.search(r"install packages \(([^)]*)\)", said)
        assert names, said
        host.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *names[1].split(", ")],
                 env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=600)  # fmt: skip
        # One install and the way back: fills the cache, and is itself the first proof.
        host.run(install, timeout=900)
        before_link = host.stat("/usr/local/bin/nqr")
        assert before_link is not None
        gone = product.nqr(host, "rollback", "--non-interactive", timeout=600)
        assert not host.exists("/var/lib/nqrust-microvm") and not host.exists("/opt/nqrust-microvm"), gone.describe()
        ready = host.snapshot()
        killing.plain_devices(host)
        yield Bench(host, host.fingerprint(), ready, install)
