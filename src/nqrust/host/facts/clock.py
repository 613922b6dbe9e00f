"""Whether a service synchronizes the clock."""

from __future__ import annotations

from nqrust.host.port import Host


def probe(host: Host, processes: dict[int, str]) -> bool | None:
    """Return the answer of systemd-timesyncd.service(8), or None if another program, or none, synchronizes the clock."""
    if host.exists("/run/systemd/timesync/synchronized"):
        return True
    return False if "systemd-timesyn" in processes.values() else None  # a name has 15 bytes at most
