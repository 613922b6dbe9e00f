"""Unit files with their enabled state, and the active units (systemctl(1))."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.facts import container
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint import volatile
from nqrust.installer.fingerprint.model import Section

_TYPES = "service,socket,timer,path"
_STEADY = ("active", "failed")


def take_files(host: Host, unread: list[str]) -> Section:
    """Return unit file -> enabled, disabled, static, masked ..."""
    return parse_unit_files(_list(host, unread, "list-unit-files", "--full"))


def take_active(host: Host, unread: list[str]) -> Section:
    """Return unit -> active or failed, without units in transition."""
    return parse_units(_list(host, unread, "list-units", "--all", "--full", f"--type={_TYPES}"))


def parse_unit_files(content: str) -> Section:
    rows = (line.split() for line in content.splitlines())
    return {row[0]: row[1] for row in rows if len(row) >= 2 and "." in row[0]}


def parse_units(content: str) -> Section:
    """Parse UNIT LOAD ACTIVE SUB DESCRIPTION. A dot or an asterisk precedes a failed unit."""
    transient = volatile.units()
    found: Section = {}
    for line in content.splitlines():
        row = line.lstrip("●*○× ").split()
        if len(row) >= 4 and row[2] in _STEADY and not transient.match(row[0]):
            found[row[0]] = row[2]
    return found


def _list(host: Host, unread: list[str], *arguments: str) -> str:
    if container.supervisor(host) != "systemd":
        return ""
    try:
        return host.run(command("systemctl", "--no-legend", "--no-pager", "--plain", *arguments, timeout=60)).stdout
    except HostError as error:
        unread.append(f"units: {error}")
        return ""
