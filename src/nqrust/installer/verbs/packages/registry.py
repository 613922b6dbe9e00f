"""The package managers, by the name in undo records. A new one is a folder and a line here."""

from __future__ import annotations

from typing import Any

from nqrust.host.port import Host
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages.apt.manager import APT
from nqrust.installer.verbs.packages.dnf.manager import DNF
from nqrust.installer.verbs.packages.manager import Collecting, PackageManager

MANAGERS: dict[str, PackageManager] = {manager.name: manager for manager in (APT, DNF)}
"""Package managers in the order of their queries."""


def of_record(args: dict[str, Any]) -> PackageManager:
    """Return the package manager that an undo record names."""
    return MANAGERS[str(args["manager"])]


def installed(host: Host) -> frozenset[str]:
    """Return names of the installed packages, from this host's first database. Raises HostError."""
    answers = (manager.database.installed(host) for manager in MANAGERS.values())
    return next((found for found in answers if found is not None), frozenset())


def collecting(host: Host) -> Collecting | None:
    """Return the part of this host's package manager that collects packages, or None if it has none. Raises HostError."""
    return next((m.collecting for m in MANAGERS.values() if m.database.installed(host) is not None), None)


def states(host: Host) -> dict[str, Any]:
    """Return the same with versions, states and marks, for the fingerprint. Raises HostError."""
    answers = (manager.database.states(host) for manager in MANAGERS.values())
    return next((found for found in answers if found is not None), {})


def of_postgres(host: Host) -> frozenset[str]:
    """Return names of packages that a remaining PostgreSQL may need."""
    return frozenset().union(*(manager.database.of_postgres(host) for manager in MANAGERS.values()))


def closed() -> frozenset[str]:
    """Return folders that the search for files of package scripts skips."""
    return traces.CLOSED.union(*(manager.database.closed for manager in MANAGERS.values()))
