"""The folder of every image: built beside its target and renamed, with kernel and initrd in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from nqrust.contract.images import MANIFEST, Blob, ImageManifest
from nqrust.host.port import Host
from nqrust.host.way import led_by_others
from nqrust.image import initrd
from nqrust.image.errors import ImageError
from nqrust.image.kernel import GuestFiles
from nqrust.image.progress import Progress
from nqrust.image.vmlinux import write_vmlinux

ROOTFS, KERNEL, KERNEL_ELF, INITRD = "rootfs.ext4", "vmlinuz", "vmlinux", "initrd.cpio"
PRIVATE = 0o750
"""Mode of an image's folder that its owner and root need alone."""
CMDLINE = "quiet i8042.noaux i8042.nomux"


def staging_of(target_dir: str) -> str:
    """Return the build folder of an image. Any existing content is an interrupted build."""
    parent, _, base = target_dir.rpartition("/")
    return f"{parent}/.{base}.building"


def _former_of(target_dir: str) -> str:
    parent, _, base = target_dir.rpartition("/")
    return f"{parent}/.{base}.replaced"


def replace(host: Host, target_dir: str, fill: Callable[[str], ImageManifest]) -> ImageManifest:
    """Let `fill` build an image in a folder beside the target, then replace the target with it.

    The target never contains a half-built image. Raises ImageError NQR-IMG-023, or the errors of `fill`.
    """
    _refuse_others_folder(host, target_dir.rpartition("/")[0])
    staging = staging_of(target_dir)
    tidy(host, target_dir)
    host.mkdir(staging, mode=PRIVATE if host.euid() else 0o755)  # the manager reads the images that root built
    try:
        manifest = fill(staging)
        if host.exists(target_dir):
            host.rename(target_dir, _former_of(target_dir))
        host.rename(staging, target_dir)
    finally:
        tidy(host, target_dir)
    return manifest


def tidy(host: Host, target_dir: str) -> None:
    """Remove what a build left beside the target, also one that was killed."""
    host.remove_tree(staging_of(target_dir))
    _recover(host, target_dir, _former_of(target_dir))


def _refuse_others_folder(host: Host, folder: str) -> None:
    """Refuse a folder in which somebody else could replace the build by a link, or which somebody could replace, because the code
    writes by path."""
    theirs = led_by_others(host, folder, host.euid())
    if theirs is not None:
        raise ImageError(
            "NQR-IMG-023",
            f"Other users can rename files in {theirs}, so nqr builds no image in {folder}.",
            f"Choose another folder, or give {theirs} to root and set its sticky bit (chown root {theirs}; chmod g+w,+t {theirs}).",
        )


def _recover(host: Host, target_dir: str, old: str) -> None:
    """Recover from a replacement interrupted between its two renames: restore the former image, or delete it."""
    if host.exists(old):
        if host.exists(target_dir):
            host.remove_tree(old)
        else:
            host.rename(old, target_dir)


def add_kernel(host: Host, folder: str, files: GuestFiles, tell: Progress) -> None:
    """Add initrd, bzImage, and the ELF for Firecracker."""
    tell("making the initrd", 0.5)
    host.write_file(f"{folder}/{INITRD}", initrd.build(host, files))
    host.copy_file(files.bzimage, f"{folder}/{KERNEL}", mode=0o644)
    tell("unpacking the kernel for Firecracker", 0.6)
    write_vmlinux(host, f"{folder}/{KERNEL}", f"{folder}/{KERNEL_ELF}")


def finish(
    host: Host, folder: str, *, name: str, description: str, min_memory_mib: int, min_disk_mib: int, tell: Progress
) -> ImageManifest:
    """Compute the digests and write the manifest last. Raises ImageError NQR-IMG-008."""
    tell("checking the image", 0.95)
    manifest = ImageManifest(
        name=name,
        description=description,
        rootfs=blob(host, folder, ROOTFS),
        kernel=blob(host, folder, KERNEL),
        kernel_elf=blob(host, folder, KERNEL_ELF),
        initrd=blob(host, folder, INITRD),
        cmdline=CMDLINE,
        ssh_server=False,
        min_memory_mib=min_memory_mib,
        min_disk_mib=min_disk_mib,
        created_at=datetime.fromtimestamp(int(host.now()), timezone.utc),
    )
    host.write_file(f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=2).encode() + b"\n")
    return manifest


def blob(host: Host, folder: str, file: str) -> Blob:
    """Return size and digest of a file of the image. Raises ImageError NQR-IMG-008."""
    path = f"{folder}/{file}"
    stat = host.stat(path)
    if stat is None:
        raise ImageError("NQR-IMG-008", f"The image lacks {file}.", "Build the image again.")
    return Blob(file=file, size=stat.size, sha256=host.sha256(path))


def check_guest_agent(host: Host, path: str) -> None:
    """Check the guest agent's binary. Raises ImageError NQR-IMG-007."""
    if not host.exists(path):
        raise ImageError(
            "NQR-IMG-007",
            f"There is no guest agent at {path} to put into the image.",
            "Install or build the release first, then run again.",
        )
