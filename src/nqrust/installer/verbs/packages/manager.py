"""What the rest of the installer asks of a package manager. One folder each implements it, with a line in `registry.py`.

A manager is one object, `PackageManager`, with a part for each that asks: the step that installs, the verb that takes
back, the undo script, and what looks at the packages of a host (facts, fingerprint).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host
from nqrust.installer.verbs.packages.remover import Remover


@dataclass(frozen=True)
class StartPolicy:
    """A file that, while it is there, keeps package scripts from starting services (Debian's policy-rc.d)."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Signs:
    """How the output of a failed transaction is read. `telling`: beginnings of the lines that say most; the rest are parts
    of texts: a package is `unknown`, or its source was not reached."""

    telling: tuple[str, ...]
    unknown: tuple[str, ...]
    unreached: tuple[str, ...]


class Installing(Protocol):
    """Reads the machine through the host; what changes it is given as commands, so that the step runs them.

    `name` is also the one in undo records. Methods that read raise HostError when the package manager itself
    fails.
    """

    @property
    def name(self) -> str: ...

    @property
    def start_policy(self) -> StartPolicy | None:
        """How services are kept from being started by package scripts, None where scripts do not start
        any."""
        ...

    def installed(self, host: Host) -> dict[str, str]:
        """Fully installed packages: plain name -> version."""
        ...

    def recorded(self, host: Host) -> list[str]:
        """Everything the package manager knows as present in any state, sorted, named as undo records name
        it."""
        ...

    def config_only(self, host: Host) -> list[str]:
        """Those of them that were removed and whose configuration stayed, sorted, in the same form."""
        ...

    def manual(self, host: Host) -> list[str]:
        """Packages marked as asked for by a person, sorted."""
        ...

    def index_missing(self, host: Host, names: Sequence[str]) -> str | None:
        """Why the index should be fetched before these names are installed (a clause), None when it is good
        enough."""
        ...

    def refresh(self) -> Command: ...

    def would_bring(self, host: Host, names: Sequence[str]) -> list[str]:
        """Every package that installing `names` would add, dependencies included, in the forms that
        `recorded` uses. Raises CommandFailed when the transaction cannot be worked out."""
        ...

    def install(self, names: Sequence[str]) -> Command:
        """One transaction."""
        ...

    def interrupted(self, host: Host) -> bool:
        """Whether an earlier transaction was cut off in the middle."""
        ...

    def repair(self) -> tuple[Command, ...]:
        """Commands that complete such a transaction."""
        ...

    def lock_holder(self, host: Host) -> str | None:
        """`apt-get (pid 812)` while another program holds the package manager's lock."""
        ...

    def outdated_index(self, error: CommandFailed) -> bool:
        """Whether a failed install may succeed after a refresh (name not found, file gone from the
        mirror)."""
        ...

    def lock_refused(self, error: CommandFailed) -> bool:
        """Whether a command failed because another program took the lock first."""
        ...

    @property
    def signs(self) -> Signs: ...

    def progress_text(self, line: str) -> str | None:
        """What of a line of output is worth a progress line; None for the rest."""
        ...


class Database(Protocol):
    """What packages a host has, for what looks at the host. A host has one database that counts; the first manager that
    finds its own answers."""

    @property
    def volatile_files(self) -> tuple[tuple[str, str], ...]:
        """Files that change without anything having changed, each with its reason, as in `fingerprint.volatile`."""
        ...

    @property
    def volatile_units(self) -> tuple[tuple[str, str], ...]:
        """Units of the package manager that start and end without being asked, in the same form."""
        ...

    @property
    def closed(self) -> tuple[str, ...]:
        """Folders that undo their own entries, so that nobody looks there for what package scripts made."""
        ...

    def installed(self, host: Host) -> frozenset[str] | None:
        """Names of fully installed packages; None where this database is not the host's. Raises HostError."""
        ...

    def states(self, host: Host) -> dict[str, Any] | None:
        """`name:architecture` -> version, state and mark, for the fingerprint; None and errors as for `installed`."""
        ...

    def of_postgres(self, host: Host) -> frozenset[str]:
        """Packages that a PostgreSQL which stays may need, installed or not. Never raises HostError."""
        ...


@dataclass(frozen=True)
class ShellForm:
    """A manager in the undo script, in POSIX sh. `functions`: what the rest calls. `owns`: a condition that holds when a
    package has the path $1. `state`: sets `state` to how $package is there; empty for not at all. `remove`: the function that
    removes $present and leaves in $stay what others need. `marks`: lines that put marks back, from the manager's `plain` names
    and a record's arguments. `farewell`: lines that remove packages of the bootstrap, and leave them where others need them."""

    functions: str
    owns: str
    state: str
    remove: str
    farewell: Callable[[Sequence[str]], list[str]]
    marks: Callable[[Callable[[str], str], dict[str, Any]], Iterator[str]] = lambda plain, args: iter(())


@dataclass(frozen=True)
class PackageManager:
    """One package manager, whole. `name` is the one in undo records and in the record of the bootstrap."""

    name: str
    installing: Installing
    removing: Remover
    database: Database
    shell: ShellForm
