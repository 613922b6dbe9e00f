"""Image `container-runtime`: a minimal Debian guest that runs containers with podman and crun.

It boots and stops as image `tiny` does (the same kernel and initrd, busybox as init, the guest agent, DHCP on eth0, root's
login on ttyS0 only). The host builds it from distribution packages, without loop mounts.
"""

from __future__ import annotations

from nqrust.contract.images import CONTAINER_RUNTIME, ImageManifest
from nqrust.host.port import Host
from nqrust.image import container_packages, container_rootfs, folder
from nqrust.image.errors import ImageError
from nqrust.image.kernel_sources.registry import source_for
from nqrust.image.progress import Progress, silent

NAME = CONTAINER_RUNTIME
MIN_MEMORY_MIB = 256
FREE_MIB = 1024
"""Temporary space of a build: the packages, the unpacked Debian and its file system."""


def build(
    host: Host, *, target_dir: str, guest_agent: str, cache_dir: str, name: str = NAME, progress: Progress | None = None
) -> ImageManifest:
    """Build the image in `target_dir`. Arguments, staging and errors as in `tiny.build`, and NQR-IMG-020, -021, -022."""
    tell = progress or silent
    folder.check_guest_agent(host, guest_agent)
    if host.which("mmdebstrap") is None:
        raise ImageError(
            "NQR-IMG-020",
            "The program mmdebstrap, which builds the container runtime image, is not installed.",
            "Install the package mmdebstrap (Debian, Ubuntu), then run again.",
        )
    free = host.disk_usage(target_dir).available // 2**20
    if free < FREE_MIB:
        raise ImageError(
            "NQR-IMG-022",
            f"The container runtime image takes {FREE_MIB} MiB while it is built; {free} MiB are free beside {target_dir}.",
            "Make room on that file system, then run again.",
        )

    def fill(place: str) -> ImageManifest:
        scratch = f"{place}/scratch"
        host.mkdir(scratch, mode=0o700)
        tell("fetching the guest kernel", 0.0)
        files = source_for(host)(host, scratch, cache_dir, tell)
        tell("fetching the container runtime's packages", 0.05)
        repository = container_packages.repository(host, cache_dir, container_rootfs.SELECTION, tell)
        tell("installing them into a new root", 0.1)
        container_rootfs.debian(host, f"{scratch}/root", repository, tell)
        folder.add_kernel(host, place, files, tell)
        tell("making the root file system", 0.8)
        container_rootfs.complete(host, f"{scratch}/root", files, guest_agent)
        size = container_rootfs.make_ext4(host, f"{scratch}/root", f"{place}/{folder.ROOTFS}")
        host.set_mode(f"{place}/{folder.ROOTFS}", mode=0o644, owner="root", group="root")
        host.remove_tree(scratch)
        return folder.finish(
            host,
            place,
            name=name,
            description=f"Debian guest with podman and crun, guest agent, serial console (Linux {files.version})",
            min_memory_mib=MIN_MEMORY_MIB,
            min_disk_mib=size,
            tell=tell,
        )

    manifest = folder.replace(host, target_dir, fill)
    tell(f"image {name} is ready", 1.0)
    return manifest
