"""The processor: /proc/cpuinfo (proc(5))."""

from __future__ import annotations

from nqrust.host.facts.model import Cpu
from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def probe(host: Host) -> Cpu:
    return parse_cpuinfo(text(host, "/proc/cpuinfo"))


def parse_cpuinfo(content: str) -> Cpu:
    """Flags are those of the first processor."""
    first: dict[str, str] = {}
    count = 0
    for line in content.splitlines():
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon:
            continue
        if name == "processor":
            count += 1
        first.setdefault(name, value.strip())
    return Cpu(count=count, flags=frozenset(first.get("flags", "").split()))
