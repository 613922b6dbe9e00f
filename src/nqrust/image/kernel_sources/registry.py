"""All sources of guest kernels, and the choice for this host. A form of packages is one file here and a line below."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.image.debs import ALONE
from nqrust.image.errors import ImageError
from nqrust.image.kernel import SOURCES, KernelSource
from nqrust.image.kernel_sources import deb  # registers itself
from nqrust.image.progress import Progress


def distribution_names(os_release: str) -> list[str]:
    """Return `ID` and then `ID_LIKE` of an os-release(5) text, lower case."""
    fields: dict[str, str] = {}
    for line in os_release.splitlines():
        key, sign, value = line.partition("=")
        if sign:
            fields[key.strip()] = value.strip().strip("\"'")
    return [name for key in ("ID", "ID_LIKE") for name in fields.get(key, "").lower().split()]


def source_for(host: Host) -> KernelSource:
    """Return the source for this host. Raises ImageError NQR-IMG-001 if its distribution has none."""
    text = ""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            text = host.read_text(path)
            break
        except HostError:
            continue
    names = distribution_names(text)
    for name in names:
        if name in SOURCES:
            return SOURCES[name]
    raise ImageError(
        "NQR-IMG-001",
        f"There is no recipe for a guest kernel on this distribution ({' '.join(names) or 'unknown'}).",
        "Build the image on Debian or Ubuntu and add it with: nqr image add NAME --path FOLDER",
    )


def collect(host: Host, directory: str, tell: Progress) -> None:
    """Put the packages that this host's source needs into a new folder, which is then a source without a network. Raises
    ImageError NQR-IMG-002, -003."""
    deb.download(host, directory, tell)
    host.write_file(f"{directory}/{ALONE}", b"The packages of this folder are complete.\n")
