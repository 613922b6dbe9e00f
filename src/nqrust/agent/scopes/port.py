"""A scope: all processes of one VM, found by identity (never by a PID file). It outlives the agent.

The name `fc-<vm-id>` is the mutex: while it is taken, no second VMM can start for that VM. `all` and `get` read all of /proc,
which takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nqrust.agent.scopes.limits import Limits
from nqrust.contract.names import SCOPE_PREFIX, scope_name

_WRAPPERS = frozenset(
    {"screen", "sh", "bash", "dash", "setsid", "flock", "systemd-run", "prlimit", "setpriv", "unshare", "mount", "ip", "sleep"}
    | {"jailer", "dd", "stat", "timeout", "tty", "rm", "kill", "cp", "sed", "mv"}
)
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
        """The VMM without terminal and launcher. Empty during its launch or just after its end."""
        return tuple(p for p in self.processes if p.comm not in _WRAPPERS)


@dataclass(frozen=True)
class Launch:
    """A program to run in a scope. `directory` holds the VM's files, its lock, exit status and console log."""

    vm_id: str
    description: str
    argv: tuple[str, ...]
    directory: str
    user: int
    limits: Limits | None = None
    largest_file: int | None = None
    """Bytes that no file of the VM's processes may exceed."""
    mounts: tuple[tuple[str, str], ...] = ()
    """Source and place of what only the VM's processes see."""
    tap: str = ""
    """TAP to make in the network namespace of the VM's processes, for `user`."""

    @property
    def name(self) -> str:
        return scope_name(self.vm_id)

    @property
    def log(self) -> str:
        return console_log(self.directory)

    @property
    def lock(self) -> str:
        """The launcher holds a flock(2) on this file while its VMM runs."""
        return lock(self.directory)

    @property
    def exit_status(self) -> str:
        return exit_status(self.directory)


def console_log(directory: str) -> str:
    return f"{directory}/console.log"


def lock(directory: str) -> str:
    return f"{directory}/lock"


def exit_status(directory: str) -> str:
    return f"{directory}/exit-status"


class Scopes(Protocol):
    """All methods raise a HostError if the machine does not answer."""

    def all(self) -> dict[str, Scope]:
        """Return every VM scope on this host by VM id, from one reading of /proc."""
        ...

    def get(self, vm_id: str) -> Scope | None: ...

    def seen(self, vm_id: str) -> Scope | None:
        """Return the scope if its VMM is found quickly, maybe without its other processes. None proves nothing."""
        ...

    def vacant(self, vm_id: str) -> bool:
        """Return whether certainly nothing of the VM runs, quickly. False proves nothing."""
        ...

    def spawn(self, launch: Launch) -> None:
        """Start the processes and return at once. While the scope exists this is a no-op or fails; no second VMM starts."""
        ...

    def kill(self, vm_id: str, signal: int) -> None:
        """Send `signal` to every process of the scope. An empty scope is not an error."""
        ...

    def tidy(self) -> None:
        """Remove the remains of scopes that have ended."""
        ...
