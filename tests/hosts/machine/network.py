"""A network for test hosts: one bridge, one /24 of 10.77.0.0/16, a way out by masquerading."""

from __future__ import annotations

import os
from types import TracebackType

from tests.hosts.machine.outside import OutsideError, Process, locked, outside
from tests.hosts.machine.records import Record, enable_forwarding, global_lock, records


class TestNetwork:
    """A bridge `nqt<N>` with 10.77.N.1/24. Hosts on it see each other and, unless `outward` is False, the outside.

    Use as a context manager, or call `remove`. Numbers are handed out under a lock, so parallel runs do not meet.
    """

    __test__ = False

    def __init__(self, *, outward: bool = True) -> None:
        owner = Process.of(os.getpid())
        assert owner is not None
        with locked(global_lock()):
            taken = {record.name for record in records()}
            links = outside("ip", "-brief", "link").stdout.decode().split()
            self.number = next(
                (n for n in range(1, 255) if f"nqt{n}" not in taken and f"nqt{n}" not in links and not _routed(n)), 0
            )
            if not self.number:
                raise OutsideError("no free 10.77.N.0/24 left for a test network")
            self.bridge = f"nqt{self.number}"
            self._hosts = 1
            tag = ["-m", "comment", "--comment", f"nqr-test:{self.bridge}"]
            rules: list[tuple[str, list[str]]] = []
            if outward:
                rules = [
                    ("nat", ["POSTROUTING", "-s", self.subnet, "!", "-o", self.bridge, *tag, "-j", "MASQUERADE"]),
                    # A container engine's FORWARD policy may be DROP.
                    ("filter", ["FORWARD", "-i", self.bridge, *tag, "-j", "ACCEPT"]),
                    ("filter", ["FORWARD", "-o", self.bridge, *tag, "-j", "ACCEPT"]),
                ]
            self._record = Record(self.bridge, owner, links=[self.bridge], rules=rules, forwarding=outward)
            self._record.save()
            outside("ip", "link", "add", self.bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0")
            outside("ip", "address", "add", f"{self.gateway}/24", "dev", self.bridge)
            outside("ip", "link", "set", self.bridge, "up")
            for table, rule in rules:
                outside("iptables", "-w", "-t", table, "-I", *rule)
            if outward:
                enable_forwarding()

    @property
    def subnet(self) -> str:
        return f"10.77.{self.number}.0/24"

    @property
    def gateway(self) -> str:
        """The testing machine's own address on this network: where a test's server listens."""
        return f"10.77.{self.number}.1"

    def next_host(self) -> int:
        """A fresh host number, 2 to 254; it names the address and the link."""
        self._hosts += 1
        if self._hosts > 254:
            raise OutsideError(f"{self.bridge} has no free address left")
        return self._hosts

    def address(self, host: int) -> str:
        return f"10.77.{self.number}.{host}"

    def remove(self) -> None:
        """Take bridge, rules and forwarding back. Safe to repeat."""
        self._record.undo()

    def __enter__(self) -> TestNetwork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()


def _routed(number: int) -> bool:
    return bool(outside("ip", "route", "show", f"10.77.{number}.0/24").stdout.strip())
