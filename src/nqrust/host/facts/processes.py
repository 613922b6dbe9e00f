"""Running processes: /proc/PID/comm (proc(5))."""

from __future__ import annotations

from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host


def probe(host: Host) -> dict[int, str]:
    """Return the name of each process (15 bytes at most, as ps(1) shows them). Processes that end meanwhile are skipped."""
    found = {}
    for name in names(host, "/proc"):
        if name.isdecimal():
            comm = text(host, f"/proc/{name}/comm").strip()
            if comm:
                found[int(name)] = comm
    return found
