"""Names of installed packages: dpkg's own database (dpkg-query(1)), else rpm(8)."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, command

DPKG_STATUS = "/var/lib/dpkg/status"
_RPM_FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")


def probe(host: Host) -> frozenset[str]:
    content = text(host, DPKG_STATUS)
    if content:
        return parse_dpkg_status(content)
    if host.which("rpm") is not None and any(host.exists(folder) for folder in _RPM_FOLDERS):
        try:
            return parse_lines(host.run(command("rpm", "-qa", "--queryformat", "%{NAME}\\n")).stdout)
        except HostError:
            return frozenset()
    return frozenset()


def parse_dpkg_status(content: str) -> frozenset[str]:
    """Packages whose state is `installed`: removed ones that left configuration behind do not count."""
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


def parse_lines(content: str) -> frozenset[str]:
    return frozenset(line.strip() for line in content.splitlines() if line.strip())
