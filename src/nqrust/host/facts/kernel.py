"""The running kernel, from /proc (no program is needed)."""

from __future__ import annotations

import re

from nqrust.host.errors import HostError
from nqrust.host.facts.model import Kernel
from nqrust.host.facts.reading import text
from nqrust.host.port import Host

_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  # elf.h, EM_*


def probe(host: Host) -> Kernel:
    release = text(host, "/proc/sys/kernel/osrelease").strip()
    # Linux has /proc/sys/kernel/arch since 6.1. On older kernels the ELF header of this program shows the architecture.
    machine = text(host, "/proc/sys/kernel/arch").strip() or _machine_of_programs(host)
    return Kernel(
        release=release,
        version=parse_release(release),
        machine=machine,
        boot_id=text(host, "/proc/sys/kernel/random/boot_id").strip(),
        modules_loadable=(
            host.exists("/proc/modules")
            and host.which("modprobe") is not None
            and any(host.exists(f"{folder}/{release}") for folder in ("/lib/modules", "/usr/lib/modules"))
        ),
    )


def parse_release(release: str) -> tuple[int, int]:
    """`6.1.0-28-amd64` -> (6, 1); (0, 0) for any other form."""
    found = re.match(r"(\d{1,5})\.(\d{1,5})", release, re.ASCII)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def parse_elf_machine(header: bytes) -> str:
    """Return the architecture in an ELF header (elf(5), e_machine), or "" if it is unknown."""
    if header[:4] != b"\x7fELF" or len(header) < 20:
        return ""
    return _MACHINES.get(int.from_bytes(header[18:20], "little" if header[5] == 1 else "big"), "")


def _machine_of_programs(host: Host) -> str:
    try:
        return parse_elf_machine(host.read_bytes("/proc/self/exe", 20))
    except HostError:
        return ""
