"""Whether something keeps the clock right."""

from __future__ import annotations

from nqrust.host.port import Host


def probe(host: Host, processes: dict[int, str]) -> bool | None:
    """True or False where systemd-timesyncd.service(8) tells; None when another program, or none, takes care."""
    if host.exists("/run/systemd/timesync/synchronized"):
        return True
    return False if "systemd-timesyn" in processes.values() else None  # a name has 15 bytes at most
