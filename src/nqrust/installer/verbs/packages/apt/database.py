"""dpkg's database, read as files: dpkg(1), apt-mark(8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command

STATUS = "/var/lib/dpkg/status"
_EXTENDED = "/var/lib/apt/extended_states"
_POSTGRES = ("postgresql", "postgresql-client", "postgresql-common", "postgresql-client-common")

_FILES = (
    (STATUS, "database; what it says is compared as packages"),
    ("/var/lib/dpkg/status-old", "backup of the database"),
    ("/var/lib/dpkg/available", "database; rewritten in another order"),
    ("/var/lib/dpkg/available-old", "backup of the database"),
    ("/var/lib/dpkg/diversions-old", "backup of the database"),
    ("/var/lib/dpkg/statoverride-old", "backup of the database"),
    ("/var/lib/dpkg/lock*", "empty lock files"),
    ("/var/lib/dpkg/triggers/*", "queue of work that dpkg has yet to do"),
    ("/var/lib/dpkg/updates", "journal of dpkg, emptied into the database"),
    ("/var/lib/dpkg/updates/*", "journal of dpkg, emptied into the database"),
    ("/var/lib/apt/lists", "cache of what the mirrors offer"),
    ("/var/lib/apt/lists/**", "cache of what the mirrors offer"),
    (_EXTENDED, "database; what it says is compared as packages"),
    ("/var/lib/apt/periodic/*", "time stamps of the daily update"),
    ("/var/lib/apt/daily_lock", "empty lock file"),
)


@dataclass(frozen=True)
class Dpkg:
    volatile_files: tuple[tuple[str, str], ...] = _FILES
    volatile_units: tuple[tuple[str, str], ...] = (
        ("apt-daily*.service", "runs once a day"),
        ("dpkg-db-backup.service", "runs once a day"),
    )
    closed: tuple[str, ...] = ("/var/lib/dpkg/info", "/var/lib/apt", "/var/cache/apt")

    def installed(self, host: Host) -> frozenset[str] | None:
        content = text(host, STATUS)
        return parse_dpkg_status(content) if content else None

    def states(self, host: Host) -> dict[str, Any] | None:
        content = text(host, STATUS)
        return parse_dpkg(content, parse_automatic(text(host, _EXTENDED))) if content else None

    def of_postgres(self, host: Host) -> frozenset[str]:
        try:
            names = host.run(command("dpkg-query", "-W", "-f", "${Package}\n", "postgresql*", ok=(0, 1))).stdout.split()
        except HostError:
            names = []
        return frozenset((*_POSTGRES, *names))


def parse_dpkg_status(content: str) -> frozenset[str]:
    """Return packages whose state is `installed`, without removed ones that left configuration."""
    found = set()
    for paragraph in content.split("\n\n"):
        name, installed = "", False
        for line in paragraph.split("\n"):
            if line.startswith("Package:"):
                name = line[8:].strip()
            elif line.startswith("Status:"):
                installed = line.split()[-1] == "installed"
                break
        if name and installed:
            found.add(name)
    return frozenset(found)


def parse_dpkg(status: str, automatic: frozenset[tuple[str, str]]) -> dict[str, Any]:
    """Return name:architecture -> `version state mark`, including removed packages that left configuration."""
    found: dict[str, Any] = {}
    for paragraph in status.split("\n\n"):
        fields = _fields(paragraph, ("Package", "Status", "Architecture", "Version"))
        state = fields.get("Status", "").split(" ")[-1]
        if "Package" not in fields or state in ("", "not-installed"):
            continue
        name, architecture = fields["Package"], fields.get("Architecture", "")
        mark = "auto" if (name, architecture) in automatic else "manual"
        found[f"{name}:{architecture}"] = f"{fields.get('Version', '')} {state} {mark}" if state == "installed" else f"{state}"
    return found


def parse_automatic(content: str) -> frozenset[tuple[str, str]]:
    """Return (name, architecture) of packages that APT installed as dependencies. APT writes the host's architecture for
    `all`."""
    found = set()
    for paragraph in content.split("\n\n"):
        fields = _fields(paragraph, ("Package", "Architecture", "Auto-Installed"))
        if fields.get("Auto-Installed") == "1" and "Package" in fields:
            found.add((fields["Package"], fields.get("Architecture", "")))
            found.add((fields["Package"], "all"))
    return frozenset(found)


def _fields(paragraph: str, wanted: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in paragraph.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name in wanted:
            found[name] = value.strip()
            if len(found) == len(wanted):
                break
    return found
