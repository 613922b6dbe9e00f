"""The package managers, by the name in undo records. A new one is a folder and a line here."""

from __future__ import annotations

from typing import Any

from nqrust.host.port import Host
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages.apt.manager import APT
from nqrust.installer.verbs.packages.dnf.manager import DNF
from nqrust.installer.verbs.packages.manager import PackageManager

MANAGERS: dict[str, PackageManager] = {manager.name: manager for manager in (APT, DNF)}
"""In the order in which they are asked what a host has."""


def of_record(args: dict[str, Any]) -> PackageManager:
    """The package manager that an undo record names."""
    return MANAGERS[str(args["manager"])]


def installed(host: Host) -> frozenset[str]:
    """Names of the installed packages, by the first database that this host has. Raises HostError."""
    answers = (manager.database.installed(host) for manager in MANAGERS.values())
    return next((found for found in answers if found is not None), frozenset())


def states(host: Host) -> dict[str, Any]:
    """The same with versions, states and marks, for the fingerprint. Raises HostError."""
    answers = (manager.database.states(host) for manager in MANAGERS.values())
    return next((found for found in answers if found is not None), {})


def of_postgres(host: Host) -> frozenset[str]:
    """Names of packages that a PostgreSQL which stays may need."""
    return frozenset().union(*(manager.database.of_postgres(host) for manager in MANAGERS.values()))


def closed() -> frozenset[str]:
    """Folders in which nobody looks for what package scripts made."""
    return traces.CLOSED.union(*(manager.database.closed for manager in MANAGERS.values()))
