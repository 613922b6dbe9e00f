"""The guest kernel and busybox from Debian's (and Ubuntu's) packages."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image.debs import DebCache, Package, dependency_names
from nqrust.image.errors import ImageError
from nqrust.image.kernel import GuestFiles, register
from nqrust.image.progress import Progress

# Smallest first: the cloud flavour has no drivers for real hardware. Ubuntu has no cloud flavour but `virtual`.
_KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64", "linux-image-generic")
_BUSYBOX = "busybox-static"


@register("debian", "ubuntu")
def fetch(host: Host, scratch: str, cache_dir: str, tell: Progress) -> GuestFiles:
    """Download (or take from the cache) and unpack kernel and busybox into `scratch`.

    Raises ImageError NQR-IMG-002, -003, -004."""
    files = download(host, cache_dir, tell)
    tell("unpacking the guest kernel", None)
    root = f"{scratch}/packages"
    host.mkdir(root)
    try:
        for path in files:
            host.run(command("dpkg-deb", "-x", path, root, timeout=300))
    except HostError as error:
        raise ImageError(
            "NQR-IMG-004",
            f"A package could not be unpacked: {error}.",
            f"Remove the files in {cache_dir} and run again; check the free space.",
        ) from error
    return locate(host, root)


def download(host: Host, cache_dir: str, tell: Progress) -> list[str]:
    """Return the packages of kernel and busybox, downloaded into `cache_dir` unless they are there.

    Raises ImageError NQR-IMG-002, -003."""
    cache = DebCache(host, cache_dir, tell)
    cache.ensure()
    packages = _kernel_packages(cache)
    busybox = cache.show(_BUSYBOX).get(_BUSYBOX)
    if not packages or busybox is None:
        lacking = "a kernel package" if not packages else _BUSYBOX
        raise ImageError(
            "NQR-IMG-002",
            f"apt knows no {lacking}, and none is in {cache_dir}.",
            "Run apt-get update with the distribution's main archive enabled, then run again.",
        )
    return [cache.fetch(package) for package in (*packages, busybox)]


def _kernel_packages(cache: DebCache) -> list[Package]:
    """Return the real packages behind the first known flavour: its image, and its modules if they are separate."""
    flavours = cache.show(*_KERNELS)
    for flavour in _KERNELS:
        if flavour not in flavours:
            continue
        image_name = next((n for n in dependency_names(flavours[flavour].depends) if n.startswith("linux-image-")), "")
        image = cache.show(image_name).get(image_name) if image_name else None
        if image is None:
            continue
        modules = [n for n in dependency_names(image.depends) if n.startswith("linux-modules-")]
        return [image, *(cache.show(*modules).values() if modules else ())]
    return []


def locate(host: Host, root: str) -> GuestFiles:
    """Find the parts in a folder of unpacked packages. Raises ImageError NQR-IMG-004."""
    kernels = host.glob(f"{root}/boot/vmlinuz-*")
    version = kernels[0].rsplit("/vmlinuz-", 1)[1] if len(kernels) == 1 else ""
    modules = next(
        (m for m in (f"{root}/lib/modules/{version}", f"{root}/usr/lib/modules/{version}") if version and host.exists(m)), None
    )
    busybox = next((b for b in (f"{root}/bin/busybox", f"{root}/usr/bin/busybox") if host.exists(b)), None)
    if modules is None or busybox is None:
        raise ImageError(
            "NQR-IMG-004",
            "The distribution's kernel or busybox package is not laid out as expected.",
            "Report this with the output of: apt-cache policy linux-image-cloud-amd64 busybox-static.",
        )
    return GuestFiles(version, kernels[0], modules, busybox)
