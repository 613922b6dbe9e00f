"""A third package manager, `few`: its database is one file with a name and a version a line. It needs nothing but its own
parts and a line in the registry, as a real one would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Host, command
from nqrust.installer.verbs.packages.manager import OutputLine, PackageManager, ShellForm, Signs, StartPolicy
from nqrust.installer.verbs.packages.remover import Remover

DATABASE = "/var/lib/few/installed"


def rows(host: Host) -> dict[str, str]:
    lines = host.read_text(DATABASE).splitlines() if host.exists(DATABASE) else []
    return dict(line.split(" ", 1) for line in lines)


SIGNS = Signs(("few:",), ("never heard of",), ("far away",), ("no more shelves",), ("few: ",))


@dataclass(frozen=True)
class Installing:
    name: str = "few"
    start_policy: StartPolicy | None = None
    signs: Signs = SIGNS

    def installed(self, host: Host) -> dict[str, str]:
        return rows(host)

    def recorded(self, host: Host) -> list[str]:
        return sorted(rows(host))

    def config_only(self, host: Host) -> list[str]:
        return []

    def manual(self, host: Host) -> list[str]:
        return []

    def index_missing(self, host: Host, names: Sequence[str]) -> str | None:
        return None

    def refresh(self) -> Command:
        return command("few", "refresh")

    def would_bring(self, host: Host, names: Sequence[str]) -> list[str]:
        return list(names)

    def install(self, names: Sequence[str]) -> Command:
        return command("few", "add", *names)

    def trust(self, cmd: Command, file: str) -> Command:
        return cmd

    def interrupted(self, host: Host) -> bool:
        return False

    def repair(self, host: Host) -> tuple[Command, ...]:
        return ()

    def lock_holder(self, host: Host) -> str | None:
        return None

    def outdated_index(self, error: CommandFailed) -> bool:
        return False

    def lock_refused(self, error: CommandFailed) -> bool:
        return False

    def parse_output(self, line: str) -> OutputLine:
        """`few` says `to place: 2`, then `placed NAME` once a package."""
        if line.startswith("to place: "):
            return OutputLine(announced=int(line.removeprefix("to place: ")))
        return OutputLine(line, share=1.0) if line.startswith("placed ") else OutputLine()


@dataclass(frozen=True)
class Database:
    volatile_files: tuple[tuple[str, str], ...] = (("/var/lib/few/**", "database; what it says is compared as packages"),)
    volatile_units: tuple[tuple[str, str], ...] = (("few-daily.service", "runs once a day"),)
    closed: tuple[str, ...] = ("/var/lib/few",)

    def installed(self, host: Host) -> frozenset[str] | None:
        return frozenset(rows(host)) if host.exists(DATABASE) else None

    def states(self, host: Host) -> dict[str, Any] | None:
        return {f"{name}:all": version for name, version in rows(host).items()} if host.exists(DATABASE) else None

    def of_postgres(self, host: Host) -> frozenset[str]:
        return frozenset({"few-postgresql"})


SHELL = ShellForm(
    functions="remove_few() { # $present\n    few remove $present\n}\n",
    owns='[ "$1" = /etc/owned-by-few ]',
    state=f"state=$(sed -n \"s/^$package .*/installed/p\" {DATABASE} 2>/dev/null) || state=''",
    remove="remove_few",
    farewell=lambda names: [f"few farewell {' '.join(names)}"],
)


def _purge(host: Host, names: set[str], configured: set[str]) -> None:
    host.run(command("few", "remove", *sorted(names)))


REMOVER = Remover(
    lambda host: lambda name: name, lambda host: set(rows(host)), lambda host: set(), lambda host, names: set(names), lambda host: {},
    _purge, lambda host, names: "", lambda host, names: frozenset(),
)  # fmt: skip


def few(removing: Remover = REMOVER) -> PackageManager:
    """The manager, whole, with another `removing` where a test has its own."""
    return PackageManager("few", Installing(), removing, Database(), SHELL)
