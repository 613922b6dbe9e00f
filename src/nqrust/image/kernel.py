"""Sources of the guest kernel: a registry with one small file for each family of distributions.

A source takes the kernel from the distribution's own package without installing it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.host.port import Host
from nqrust.image.progress import Progress


@dataclass(frozen=True)
class GuestFiles:
    """The parts of an image, unpacked in a scratch folder. `bzimage`, `busybox`: paths.

    `modules`: the folder `lib/modules/<version>`; `version`: the kernel's release as uname(1) prints it.
    """

    version: str
    bzimage: str
    modules: str
    busybox: str


KernelSource = Callable[[Host, str, str, Progress], GuestFiles]
"""(host, scratch folder, cache folder, progress) -> files."""

SOURCES: dict[str, KernelSource] = {}


def register(*distributions: str) -> Callable[[KernelSource], KernelSource]:
    """Register a source for names (`ID` of os-release(5))."""

    def add(source: KernelSource) -> KernelSource:
        for name in distributions:
            SOURCES[name] = source
        return source

    return add
