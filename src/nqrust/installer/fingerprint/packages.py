"""Packages: version, state and whether someone asked for them (apt-mark(8))."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.facts.packages import DPKG_STATUS
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint.model import Section

_EXTENDED = "/var/lib/apt/extended_states"


def take(host: Host, unread: list[str]) -> Section:
    content = text(host, DPKG_STATUS)
    if content:
        return parse_dpkg(content, parse_automatic(text(host, _EXTENDED)))
    if host.which("rpm") is None:
        return {}
    try:
        done = host.run(command("rpm", "-qa", "--queryformat", "%{NAME}:%{ARCH} %{VERSION}-%{RELEASE}\\n"))
    except HostError as error:
        unread.append(f"packages: {error}")
        return {}
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def parse_dpkg(status: str, automatic: frozenset[tuple[str, str]]) -> Section:
    """name:architecture to `version state mark`. A package that left its configuration behind is still there."""
    found: Section = {}
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
    """(name, architecture) of what APT installed for another package. APT writes the host's architecture for `all`."""
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
