"""What the package steps ask of a distribution's package manager. One small file each implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host


@dataclass(frozen=True)
class StartPolicy:
    """A file that, while it is there, keeps package scripts from starting services (Debian's policy-rc.d)."""

    path: str
    content: bytes
    mode: int


class PackageManager(Protocol):
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


def progress_text(line: str) -> str | None:
    """What of a package manager's output is worth a progress line; None for the rest."""
    text = line.strip()
    if text.startswith(("Get:", "Unpacking ", "Setting up ")):
        return text.split(" (", 1)[0]
    if text.startswith(("Installing  :", "Installing       :", "Downloading Packages")):
        return " ".join(text.split()[:3])
    return None
