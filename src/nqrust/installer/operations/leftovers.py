"""What a rehearsal that was killed leaves behind: its folder. Mounts, network card and processes went with it."""

from __future__ import annotations

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host

PREFIX = "rehearsal-"


def leftovers(host: Host) -> list[str]:
    """Folders of rehearsals; of one that runs too, if one does. Raises HostError."""
    try:
        return [f"{CACHE_DIR}/{name}" for name in host.listdir(CACHE_DIR) if name.startswith(PREFIX)]
    except PathMissing:
        return []


def clear(host: Host) -> list[str]:
    """Remove them; gives what they were. Only under the installer's lock, when none can run. Raises HostError."""
    found = leftovers(host)
    for path in found:
        host.remove_tree(path)
    return found
