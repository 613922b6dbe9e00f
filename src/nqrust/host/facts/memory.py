"""Memory: /proc/meminfo (proc(5))."""

from __future__ import annotations

import re

from nqrust.host.facts.model import Memory
from nqrust.host.facts.reading import text
from nqrust.host.port import Host

_LINE = re.compile(r"^(\w+(?:\(\w+\))?):\s+(\d{1,18}) kB\s*$", re.ASCII | re.MULTILINE)


def probe(host: Host) -> Memory:
    return parse_meminfo(text(host, "/proc/meminfo"))


def parse_meminfo(content: str) -> Memory:
    """Return the amounts, or zeros if the kernel does not report them."""
    kib = {name: int(value) for name, value in _LINE.findall(content)}
    return Memory(
        total_mib=kib.get("MemTotal", 0) // 1024,
        available_mib=kib.get("MemAvailable", kib.get("MemFree", 0)) // 1024,
    )
