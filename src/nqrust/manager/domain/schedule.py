"""Which host a VM goes to. Pure: candidates and a demand in, one host or the reason why none out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOST_RESERVE_MIB = 256
"""Memory that is left to the host itself."""


@dataclass(frozen=True)
class Candidate:
    """A host with what its VMs already take: memory and vCPUs of those that run or shall run."""

    id: str
    name: str
    online: bool
    cordoned: bool
    cpus: int
    memory_mib: int
    disk_available_mib: int
    used_vcpus: int = 0
    used_memory_mib: int = 0
    cannot: str = ""
    """Why it cannot take this very VM, whatever it has free."""

    @property
    def free_memory_mib(self) -> int:
        return self.memory_mib - self.used_memory_mib - HOST_RESERVE_MIB


@dataclass(frozen=True)
class Demand:
    """`memory_mib` includes the VMM's headroom. `host`: the name of the only acceptable host."""

    vcpus: int
    memory_mib: int
    disk_mib: int
    host: str | None = None


class NoHost(Exception):
    """No host can take it. `later`: waiting may help (hosts are away), else only a change does."""

    def __init__(self, reason: str, later: bool) -> None:
        self.later = later
        super().__init__(reason)


def why_not(host: Candidate, demand: Demand, overcommit: float) -> str:
    """Why `host` cannot take it; empty when it can. A capacity of 0 means that it was not reported."""
    if not host.online:
        return "is not online"
    if host.cordoned:
        return "is cordoned"
    if host.cannot:
        return host.cannot
    if host.memory_mib and host.free_memory_mib < demand.memory_mib:
        return f"has {max(0, host.free_memory_mib)} MiB of memory free, {demand.memory_mib} MiB are needed"
    if host.cpus and host.used_vcpus + demand.vcpus > host.cpus * overcommit:
        return f"has {host.used_vcpus} of {int(host.cpus * overcommit)} vCPUs in use"
    if host.disk_available_mib and host.disk_available_mib < demand.disk_mib:
        return f"has {host.disk_available_mib} MiB of disk free, {demand.disk_mib} MiB are needed"
    return ""


def choose(candidates: Sequence[Candidate], demand: Demand, overcommit: float) -> Candidate:
    """The fitting host with the most free memory (by name when equal); raises NoHost."""
    if demand.host is not None:
        candidates = [c for c in candidates if c.name == demand.host]
        if not candidates:
            raise NoHost(f"There is no host named {demand.host}.", later=False)
    if not candidates:
        raise NoHost("No host has registered yet.", later=True)
    reasons = {c.name: why_not(c, demand, overcommit) for c in candidates}
    fitting = [c for c in candidates if not reasons[c.name]]
    if fitting:
        return min(fitting, key=lambda c: (-c.free_memory_mib, c.name))
    told = "; ".join(f"{name} {reason}" for name, reason in sorted(reasons.items())[:5])
    raise NoHost(f"No host can take it: {told}.", later=not any(c.online for c in candidates))
