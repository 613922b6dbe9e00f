"""Whether SELinux is on: /sys/fs/selinux (selinux(8)). libselinux's getenforce(8) reads the same file."""

from __future__ import annotations

from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def probe(host: Host) -> str:
    return parse_enforce(text(host, "/sys/fs/selinux/enforce"))


def parse_enforce(content: str) -> str:
    """`enforcing`, `permissive`, or "" on a kernel without SELinux or with it disabled."""
    return {"1": "enforcing", "0": "permissive"}.get(content.strip(), "")
