"""The ports of a bridge that belong to VMs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nqrust.agent.store import VmRecord
from nqrust.contract.text import word
from nqrust.host.port import Host

_NET = "/sys/class/net"


@dataclass(frozen=True)
class Ports:
    """`vms`: those on record that have a port, by id."""

    vms: list[VmRecord]

    def __bool__(self) -> bool:
        return bool(self.vms)


def look(host: Host, records: Iterable[VmRecord]) -> Ports:
    """Return the ports that `host` has now, or that a VM gets at its start."""
    return Ports(sorted((one for one in records if _has_port(host, one)), key=lambda one: one.id))


def _has_port(host: Host, record: VmRecord) -> bool:
    """A guest that is asked to power off may send for minutes and may refuse."""
    return record.asked == "run" or host.exists(f"{_NET}/{word(record.tap)}")
