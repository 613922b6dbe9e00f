"""rpm's database, read through rpm(8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

_FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")


@dataclass(frozen=True)
class Rpm:
    volatile_files: tuple[tuple[str, str], ...] = (
        *((f"{folder}/**", "database; what it says is compared as packages") for folder in _FOLDERS),
        ("/var/lib/dnf/**", "history of the package manager"),
    )
    volatile_units: tuple[tuple[str, str], ...] = ()
    closed: tuple[str, ...] = ()

    def installed(self, host: Host) -> frozenset[str] | None:
        if host.which("rpm") is None or not any(host.exists(folder) for folder in _FOLDERS):
            return None
        try:
            return parse_lines(host.run(command("rpm", "-qa", "--queryformat", "%{NAME}\\n")).stdout)
        except HostError:
            return frozenset()

    def states(self, host: Host) -> dict[str, Any] | None:
        if host.which("rpm") is None:
            return None
        done = host.run(command("rpm", "-qa", "--queryformat", "%{NAME}:%{ARCH} %{VERSION}-%{RELEASE}\\n"))
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    def of_postgres(self, host: Host) -> frozenset[str]:
        return frozenset(("postgresql", "postgresql-server"))


def parse_lines(content: str) -> frozenset[str]:
    return frozenset(line.strip() for line in content.splitlines() if line.strip())
