"""Images: a raw root file system with the kernel (and initrd) that boots it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

IMAGE_NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
MANIFEST = "image.json"
ROOTFS_TYPES = ("ext4", "xfs", "btrfs")
"""File systems into which an agent can write a VM's identity."""
MOUNTING_NEEDS = {"xfs": ("xfsprogs", ("xfs_repair", "xfs_growfs")), "btrfs": ("btrfs-progs", ("btrfs",))}
"""Types that must be mounted for it -> the package (Debian's name) and its programs that the VM's host needs."""


class Blob(BaseModel):
    """One file of an image: name inside the image's folder, size in bytes, sha256 in hex."""

    file: str = Field(max_length=255)
    size: int = Field(ge=0, lt=2**63)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ImageManifest(BaseModel):
    """`image.json` in `/srv/images/<name>/`, beside its files. A builder writes it and a registry reads it.

    `kernel` is a bzImage or ELF that QEMU accepts; `kernel_elf` an uncompressed ELF `vmlinux` for Firecracker.
    """

    name: str = Field(pattern=IMAGE_NAME_PATTERN)
    description: str = ""
    arch: str = "x86_64"
    rootfs: Blob
    rootfs_type: str = Field(
        default="ext4", description="ext4, xfs or btrfs; the kernel, or the initrd that loads its module, must know it"
    )
    kernel: Blob
    kernel_elf: Blob | None = None
    initrd: Blob | None = None
    cmdline: str = Field(default="", description="appended to what the VMM needs; no console= and no root=")
    root_device: str = "/dev/vda"
    min_memory_mib: int = 64
    min_disk_mib: int = 16
    created_at: datetime


class Download(BaseModel):
    """Progress of an image download: bytes of all its files."""

    done: int = 0
    total: int


class Image(BaseModel):
    id: str
    name: str
    description: str = ""
    arch: str
    size: int = Field(description="bytes of the root file system")
    sha256: str = Field(description="of the root file system")
    state: str = Field(description="ready | downloading | missing | corrupt")
    error: str = Field(default="", description="why it is not ready")
    min_memory_mib: int
    min_disk_mib: int
    created_at: datetime
    manifest: ImageManifest
    download: Download | None = Field(default=None, description="None: nothing is being fetched")


class ImageList(BaseModel):
    items: list[Image]
    total: int


class ImageAdd(BaseModel):
    """Register an image. `path`: a folder with `image.json` below an allowed root on the manager's machine.

    `url`: of an `image.json` beside its files, with its `sha256`.
    """

    name: str = Field(pattern=IMAGE_NAME_PATTERN)
    path: str | None = None
    url: str | None = None
    sha256: str | None = None
