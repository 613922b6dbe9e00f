"""The folder that a killed rehearsal leaves. Its mounts, network card and processes ended with it."""

from __future__ import annotations

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host

PREFIX = "rehearsal-"


def leftovers(host: Host) -> list[str]:
    """Return the folders of rehearsals, including a running one. Raises HostError."""
    try:
        return [f"{CACHE_DIR}/{name}" for name in host.listdir(CACHE_DIR) if name.startswith(PREFIX)]
    except PathMissing:
        return []


def clear(host: Host) -> list[str]:
    """Remove the folders and return their paths. Requires the installer's lock, so that no rehearsal runs. Raises HostError."""
    found = leftovers(host)
    for path in found:
        host.remove_tree(path)
    return found
