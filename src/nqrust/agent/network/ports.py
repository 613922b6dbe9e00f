"""The ports of a bridge, by VM: those of VMs on record, and those of VMs whose record nobody can read.

A VM runs on without its record, such as when that is damaged. No rule can name its MAC and address then, so nothing passes its port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nqrust.agent.store import VmRecord
from nqrust.contract.names import TAP_ALIAS, mac_address
from nqrust.contract.text import word
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host

_NET = "/sys/class/net"


@dataclass(frozen=True)
class Ports:
    """`vms`: those on record that have a port, by id. `strange`: the TAP and the MAC of each VM without a record."""

    vms: list[VmRecord]
    strange: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.vms or self.strange)

    @property
    def closed(self) -> str:
        """Say which ports are closed; empty if none is."""
        return f"nothing passes {', '.join(self.strange)}: vm.json of its VM cannot be read" if self.strange else ""


def look(host: Host, records: Iterable[VmRecord]) -> Ports:
    """Return the ports that `host` has now, or that a VM gets at its start. Raises a HostError."""
    vms = sorted((one for one in records if _has_port(host, one)), key=lambda one: one.id)
    known, strange = {one.tap for one in vms}, {}
    for name in sorted(_links(host)):
        alias = "" if name in known else _alias(host, name)
        if alias.startswith(TAP_ALIAS):
            strange[word(name)] = mac_address(alias[len(TAP_ALIAS) :])
    return Ports(vms, strange)


def _has_port(host: Host, record: VmRecord) -> bool:
    """A guest that is asked to power off may send for minutes and may refuse."""
    return record.asked == "run" or host.exists(f"{_NET}/{word(record.tap)}")


def _links(host: Host) -> list[str]:
    try:
        return host.listdir(_NET)
    except PathMissing:
        return []


def _alias(host: Host, name: str) -> str:
    try:
        return host.read_text(f"{_NET}/{name}/ifalias").strip() if host.exists(f"{_NET}/{name}/tun_flags") else ""
    except HostError:  # it disappeared meanwhile
        return ""
