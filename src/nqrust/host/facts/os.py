"""The distribution: os-release(5)."""

from __future__ import annotations

import shlex

from nqrust.host.facts.model import Os
from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def probe(host: Host) -> Os:
    return parse_os_release(text(host, "/etc/os-release") or text(host, "/usr/lib/os-release"))


def parse_os_release(content: str) -> Os:
    """Parse with the shell's quoting rules; lines without an assignment are skipped. Default ID: `linux`, as in the manual."""
    values: dict[str, str] = {}
    for line in content.splitlines():
        name, equals, raw = line.strip().partition("=")
        if not equals or not name.isidentifier():
            continue
        try:
            words = shlex.split(raw)
        except ValueError:
            words = [raw.strip("\"'")]
        values[name] = words[0] if words else ""
    return Os(
        id=values.get("ID", "").lower() or "linux",
        version_id=values.get("VERSION_ID", ""),
        id_like=tuple(values.get("ID_LIKE", "").lower().split()),
        pretty_name=values.get("PRETTY_NAME", ""),
    )
