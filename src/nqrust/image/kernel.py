"""Where the guest kernel comes from: a registry with one small file a family of distributions.

A source takes the kernel from the distribution's own package without installing it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress


@dataclass(frozen=True)
class GuestFiles:
    """What an image is made of, unpacked in a scratch folder. `bzimage`, `busybox`: paths. `modules`: the folder
    `lib/modules/<version>`; `version`: the kernel's release as uname(1) says it."""

    version: str
    bzimage: str
    modules: str
    busybox: str


KernelSource = Callable[[Host, str, str, Progress], GuestFiles]
"""(host, scratch folder, cache folder, progress) -> files."""

_SOURCES: dict[str, KernelSource] = {}


def register(*distributions: str) -> Callable[[KernelSource], KernelSource]:
    """Names (`ID` of os-release(5)) for which a source is used."""

    def add(source: KernelSource) -> KernelSource:
        for name in distributions:
            _SOURCES[name] = source
        return source

    return add


def distribution_names(os_release: str) -> list[str]:
    """`ID` and then `ID_LIKE` of an os-release(5) text, lower case."""
    fields: dict[str, str] = {}
    for line in os_release.splitlines():
        key, sign, value = line.partition("=")
        if sign:
            fields[key.strip()] = value.strip().strip("\"'")
    return [name for key in ("ID", "ID_LIKE") for name in fields.get(key, "").lower().split()]


def source_for(host: Host) -> KernelSource:
    """The source for this host. Raises ImageError NQR-IMG-001 when its distribution has none."""
    from nqrust.image import kernel_debian  # noqa: F401  registers itself

    text = ""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            text = host.read_text(path)
            break
        except HostError:
            continue
    names = distribution_names(text)
    for name in names:
        if name in _SOURCES:
            return _SOURCES[name]
    raise ImageError(
        "NQR-IMG-001",
        f"There is no recipe for a guest kernel on this distribution ({' '.join(names) or 'unknown'}).",
        "Build the image on Debian or Ubuntu and add it with: nqr image add NAME --path FOLDER",
    )
