"""A scope: all processes of one VM, found by identity (never by a PID file), untouched when the agent ends.

The name `fc-<vm-id>` is the mutex: while it is taken, no second VMM can start for that VM. What is inside is read from
/proc each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nqrust.agent.scopes.limits import Limits
from nqrust.contract.names import SCOPE_PREFIX, scope_name

_WRAPPERS = frozenset({"screen", "sh", "bash", "dash", "setsid", "flock", "systemd-run"})
"""comm(5) of what stands around a VMM: the terminal and the launcher."""


@dataclass(frozen=True)
class Process:
    pid: int
    comm: str
    started_at: float  # seconds since the epoch


@dataclass(frozen=True)
class Scope:
    """A scope that has at least one live process."""

    name: str
    processes: tuple[Process, ...]

    @property
    def vm_id(self) -> str:
        return self.name[len(SCOPE_PREFIX) :]

    @property
    def vmm(self) -> tuple[Process, ...]:
        """The VMM itself, without terminal and launcher; empty while it is being launched or has just ended."""
        return tuple(p for p in self.processes if p.comm not in _WRAPPERS)


@dataclass(frozen=True)
class Launch:
    """What to run in a scope. `directory` holds the VM's files; lock, exit status and console log go there."""

    vm_id: str
    description: str
    argv: tuple[str, ...]
    directory: str
    limits: Limits | None = None

    @property
    def name(self) -> str:
        return scope_name(self.vm_id)

    @property
    def log(self) -> str:
        return console_log(self.directory)

    @property
    def lock(self) -> str:
        """flock(2)ed by the VMM for as long as it lives."""
        return f"{self.directory}/lock"

    @property
    def exit_status(self) -> str:
        return exit_status(self.directory)


def console_log(directory: str) -> str:
    return f"{directory}/console.log"


def exit_status(directory: str) -> str:
    return f"{directory}/exit-status"


class Scopes(Protocol):
    """All raise a HostError when the machine does not answer."""

    def all(self) -> dict[str, Scope]:
        """Every scope of VMs on this host by VM id, from one reading of /proc."""
        ...

    def get(self, vm_id: str) -> Scope | None: ...

    def spawn(self, launch: Launch) -> None:
        """Start the processes and return at once. While the scope exists this does nothing or fails, but never
        yields a second VMM."""
        ...

    def kill(self, vm_id: str, signal: int) -> None:
        """Send `signal` to every process of the scope; fine when there is none."""
        ...

    def tidy(self) -> None:
        """Nothing is left of scopes that have ended."""
        ...
