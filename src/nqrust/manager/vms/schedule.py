"""Chooses the host of a VM. Pure: candidates and a demand in, one host or a reason out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOST_RESERVE_MIB = 256
"""Memory that is reserved for the host itself."""

DISK_RESERVE = 0.05
"""Part of a host's disk that is promised to no VM: for the system, images and logs."""

DISK_WARNING = 0.8
"""Part of what may be promised above which a host is reported."""


@dataclass(frozen=True)
class Candidate:
    """A host with the memory and vCPUs of its VMs that run or will run."""

    id: str
    name: str
    online: bool
    cordoned: bool
    cpus: int
    memory_mib: int
    disk_available_mib: int
    used_vcpus: int = 0
    used_memory_mib: int = 0
    disk_mib: int = 0
    promised_mib: int = 0
    """Full sizes of the disks of its VMs, stopped ones too, and of its kept volumes. The files are sparse and grow to that."""
    cannot: str = ""
    """Why it cannot take this VM, regardless of free resources."""

    @property
    def free_memory_mib(self) -> int:
        return self.memory_mib - self.used_memory_mib - HOST_RESERVE_MIB

    def promisable_mib(self, overcommit: float) -> int:
        """Return how much disk may be promised to all VMs together."""
        return promisable_mib(self.disk_mib, overcommit)


@dataclass(frozen=True)
class Demand:
    """`memory_mib` includes the VMM's `headroom_mib`. `host`: the name of the only acceptable host."""

    vcpus: int
    memory_mib: int
    disk_mib: int
    host: str | None = None
    headroom_mib: int = 0

    @property
    def asked_memory_mib(self) -> int:
        return self.memory_mib - self.headroom_mib


def promisable_mib(disk_mib: int, overcommit: float) -> int:
    return int(disk_mib * (1 - DISK_RESERVE) * overcommit)


class NoHost(Exception):
    """No host can take it. `later`: waiting may help (hosts are offline); otherwise something must change."""

    def __init__(self, reason: str, later: bool) -> None:
        self.later = later
        super().__init__(reason)


@dataclass(frozen=True)
class Lack:
    """Why a host cannot take a VM. `has` ends the sentence; `what` is the scarce resource, of which the VM `needs` that much."""

    has: str
    what: str = ""
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.has}; {self.needs} of {self.what} are needed" if self.what else self.has


def lack(host: Candidate, demand: Demand, overcommit: float, disk_overcommit: float = 1.0) -> Lack | None:
    """Return None if `host` can take it. A capacity of 0 means that it was not reported."""
    try:
        return _lack(host, demand, overcommit, disk_overcommit)
    except (ArithmeticError, ValueError):  # numbers of one host must not keep VMs from the others
        return Lack("reports a capacity that cannot be used")


def _lack(host: Candidate, demand: Demand, overcommit: float, disk_overcommit: float) -> Lack | None:
    if not host.online:
        return Lack("is not online")
    if host.cordoned:
        return Lack("is cordoned")
    if host.cannot:
        return Lack(host.cannot)
    if host.memory_mib and host.free_memory_mib < demand.memory_mib:
        needs, free = _sizes(demand.asked_memory_mib, max(0, host.free_memory_mib - demand.headroom_mib))
        return Lack(f"has {free} free", "memory", needs)
    if host.cpus and host.used_vcpus + demand.vcpus > host.cpus * overcommit:
        return Lack(f"has {max(0, int(host.cpus * overcommit) - host.used_vcpus)} free", "vCPUs", str(demand.vcpus))
    if host.disk_available_mib and host.disk_available_mib < demand.disk_mib:
        needs, free = _sizes(demand.disk_mib, host.disk_available_mib)
        return Lack(f"has {free} free", "disk", needs)
    unpromised = host.promisable_mib(disk_overcommit) - host.promised_mib
    if host.disk_mib and demand.disk_mib and unpromised < demand.disk_mib:
        needs, free = _sizes(demand.disk_mib, max(0, unpromised))
        return Lack(f"has {free} that is promised to no VM", "disk", needs)
    return None


def nearly_promised(host: Candidate, more_mib: int, disk_overcommit: float) -> bool:
    """Return whether `more_mib` takes the host above the part of its disk at which it is reported."""
    edge = host.promisable_mib(disk_overcommit) * DISK_WARNING
    return host.disk_mib > 0 and host.promised_mib <= edge < host.promised_mib + more_mib


def choose(candidates: Sequence[Candidate], demand: Demand, overcommit: float, disk_overcommit: float = 1.0) -> Candidate:
    """Return the fitting host with the most free memory (by name if equal). Raises NoHost."""
    if demand.host is not None:
        candidates = [c for c in candidates if c.name == demand.host]
        if not candidates:
            raise NoHost(f"There is no host named {demand.host}.", later=False)
    if not candidates:
        raise NoHost("No host has registered yet.", later=True)
    lacks = {c.name: lack(c, demand, overcommit, disk_overcommit) for c in candidates}
    fitting = [c for c in candidates if lacks[c.name] is None]
    if fitting:
        return min(fitting, key=lambda c: (-c.free_memory_mib, c.name))
    reasons = [(name, reason) for name, reason in sorted(lacks.items()) if reason is not None]
    raise NoHost(told(reasons), later=not any(c.online for c in candidates))


def told(reasons: Sequence[tuple[str, Lack]]) -> str:
    """Return why none of these hosts can take it, in one sentence."""
    short_of = {(reason.what, reason.needs) for _, reason in reasons}
    if len(short_of) == 1 and reasons[0][1].what:
        what, needs = short_of.pop()
        have = "; ".join(f"host {name} {reason.has}" for name, reason in reasons[:5])
        return f"Not enough {what}: needs {needs}; {have}."
    return f"No host has room for this VM: {'. '.join(f'Host {name} {reason}' for name, reason in reasons[:5])}."


def _sizes(needed: int, free: int) -> tuple[str, str]:
    """Format two amounts of MiB for people, in units in which they differ."""
    if min(needed, free) >= 1024 and needed // 1024 != free // 1024:
        return f"{-(-needed // 1024)} GiB", f"{free // 1024} GiB"
    return _size(needed), _size(free)


def _size(mib: int) -> str:
    return f"{mib // 1024} GiB" if mib >= 1024 and mib % 1024 == 0 else f"{mib} MiB"
