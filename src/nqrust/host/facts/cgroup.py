"""Which control-group hierarchy is mounted (cgroups(7))."""

from __future__ import annotations

from nqrust.host import mounts
from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def probe(host: Host) -> str:
    return parse(text(host, mounts.MOUNTINFO))


def parse(mountinfo: str) -> str:
    """`v2`, `hybrid` (v1 controllers with a v2 tree beside them) or `v1`."""
    kinds = {mount.fstype for mount in mounts.parse_mountinfo(mountinfo) if mount.fstype in ("cgroup", "cgroup2")}
    if kinds == {"cgroup", "cgroup2"}:
        return "hybrid"
    return "v1" if kinds == {"cgroup"} else "v2"
