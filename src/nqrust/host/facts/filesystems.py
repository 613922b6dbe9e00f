"""The file systems that hold, or will hold, given paths."""

from __future__ import annotations

from nqrust.host.facts.model import FileSystem
from nqrust.host.port import Host


def probe(host: Host, paths: tuple[str, ...]) -> tuple[FileSystem, ...]:
    """Return one for each path, in their order. Paths need not exist yet."""
    found = []
    for path in paths:
        usage = host.disk_usage(path)
        found.append(
            FileSystem(
                path,
                usage.mount_point,
                usage.fstype,
                usage.total >> 20,
                usage.available >> 20,
                usage.inodes_available,
                usage.read_only,
            )
        )
    return tuple(found)
