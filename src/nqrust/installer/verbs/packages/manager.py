"""The interface of a package manager. One folder implements each, with a line in `registry.py`.

A manager is one `PackageManager` object with a part for each caller: the step that installs, the verb that removes, the undo
script, and the readers of a host's packages (facts, fingerprint).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nqrust.host.environment import certificates
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host
from nqrust.installer.verbs.packages.remover import Remover


@dataclass(frozen=True)
class StartPolicy:
    """A file whose presence keeps package scripts from starting services (Debian's policy-rc.d)."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Signs:
    """Patterns for the output of a failed transaction. `telling`: beginnings of the most useful lines. `labels`: beginnings
    that such a line is shown without. The rest are parts of texts: a package is `unknown`, its source was unreachable, or a
    file system is `full`."""

    telling: tuple[str, ...]
    unknown: tuple[str, ...]
    unreached: tuple[str, ...]
    full: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputLine:
    """One line of a running transaction. `text`: progress line for people, if it makes one. `announced`: number of packages to
    install, in the line that tells it. `share`: part of one package's installation that this line stands for, from 0 to 1."""

    text: str | None = None
    announced: int | None = None
    share: float = 0.0


class Installing(Protocol):
    """The part for the step. It reads through the host, and returns commands for changes, which the step runs.

    `name` is also the one in undo records. Methods that read raise HostError if the package manager fails.
    """

    @property
    def name(self) -> str: ...

    @property
    def start_policy(self) -> StartPolicy | None:
        """Return the policy that keeps package scripts from starting services, or None if scripts start none."""
        ...

    def installed(self, host: Host) -> dict[str, str]:
        """Return fully installed packages, and names that they provide: plain name -> version."""
        ...

    def recorded(self, host: Host) -> list[str]:
        """Return every package that is present in any state, sorted, named as in undo records."""
        ...

    def config_only(self, host: Host) -> list[str]:
        """Return removed packages among them whose configuration stayed, sorted, in the same form."""
        ...

    def manual(self, host: Host) -> list[str]:
        """Return packages marked as requested by a person, sorted."""
        ...

    def index_missing(self, host: Host, names: Sequence[str]) -> str | None:
        """Return the reason for refreshing the index before these names are installed (a clause), or None if it is recent."""
        ...

    def refresh(self) -> Command: ...

    def of_folder(self, folder: str) -> Installing:
        """Return this manager with the packages that `Collecting.collect` put into a folder as its only source."""
        ...

    def would_bring(self, host: Host, names: Sequence[str]) -> list[str]:
        """Return every package that installing `names` would add, dependencies included, named as in `recorded`. Raises
        CommandFailed if the transaction cannot be resolved, StepFailed if it would remove a package."""
        ...

    def install(self, names: Sequence[str]) -> Command:
        """Return one transaction."""
        ...

    def trust(self, cmd: Command, file: str) -> Command:
        """Return the command with the option that makes the package manager trust the certificates in a file."""
        ...

    def interrupted(self, host: Host) -> bool:
        """Return whether an earlier transaction was interrupted."""
        ...

    def repair(self, host: Host) -> tuple[Command, ...]:
        """Remove what the repeated scripts of such a transaction would fail at. Return the commands that complete it."""
        ...

    def lock_holder(self, host: Host) -> str | None:
        """Return `apt-get (pid 812)` while another program holds the package manager's lock."""
        ...

    def outdated_index(self, error: CommandFailed) -> bool:
        """Return whether a failed install may succeed after a refresh (unknown name, file missing on the mirror)."""
        ...

    def lock_refused(self, error: CommandFailed) -> bool:
        """Return whether a command failed because another program held the lock."""
        ...

    @property
    def signs(self) -> Signs: ...

    def parse_output(self, line: str) -> OutputLine:
        """Parse one line of the output of `install`."""
        ...


def trusting(host: Host, manager: Installing, cmd: Command) -> Command:
    """Return the command with the certificates of this program's environment: package managers read no such variable."""
    file = certificates(host.environment())
    return manager.trust(cmd, file) if file else cmd


class Collecting(Protocol):
    """The part that collects packages for hosts without a network."""

    def collect(self, host: Host, names: Sequence[str], folder: str) -> None:
        """Put the packages and everything they need on an empty system into a new folder, with an index. The same packages give
        the same files. Changes nothing else on this host. Raises HostError, StepFailed."""
        ...

    def prepare(self, host: Host, folder: str, place: str) -> None:
        """Make a copy of such a folder usable for `Installing.of_folder` on this host, once it is renamed to `place`. Raises
        HostError."""
        ...


class Database(Protocol):
    """The part for readers of a host's packages. A host has one database that counts; the first manager that finds its own
    answers."""

    @property
    def volatile_files(self) -> tuple[tuple[str, str], ...]:
        """Return files that change without a real change, each with its reason, as in `fingerprint.volatile`."""
        ...

    @property
    def volatile_units(self) -> tuple[tuple[str, str], ...]:
        """Return units of the package manager that start and end on their own, in the same form."""
        ...

    @property
    def closed(self) -> tuple[str, ...]:
        """Return folders that undo their own entries; the search for files of package scripts skips them."""
        ...

    def installed(self, host: Host) -> frozenset[str] | None:
        """Return names of fully installed packages, or None if the host does not use this database. Raises HostError."""
        ...

    def states(self, host: Host) -> dict[str, Any] | None:
        """Return `name:architecture` -> version, state and mark, for the fingerprint; None and errors as for `installed`."""
        ...

    def of_postgres(self, host: Host) -> frozenset[str]:
        """Return packages that a remaining PostgreSQL may need, installed or not. Never raises HostError."""
        ...


@dataclass(frozen=True)
class ShellForm:
    """A manager in the undo script, in POSIX sh. `functions`: shared functions. `owns`: a condition that holds if a package
    has the path $1. `state`: sets `state` to $package's state; empty if absent. `remove`: the function that removes $present
    and leaves in $stay the packages that others need. `farewell`: lines that remove the bootstrap's packages, except those that others need."""

    functions: str
    owns: str
    state: str
    remove: str
    farewell: Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class PackageManager:
    """One complete package manager. `name` is the one in undo records and in the bootstrap's record."""

    name: str
    installing: Installing
    removing: Remover
    database: Database
    shell: ShellForm
    collecting: Collecting | None = None
