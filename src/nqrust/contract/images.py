"""Images: a raw root file system with the kernel (and initrd) that boots it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from nqrust.contract.text import shown

IMAGE_NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
MANIFEST = "image.json"
TINY = "tiny"
CONTAINER_RUNTIME = "container-runtime"
"""Name of the image in which podman runs containers."""
ROOTFS_TYPES = ("ext4", "xfs", "btrfs")
"""File systems into which an agent can write a VM's identity."""
MOUNTING_NEEDS = {"xfs": ("xfsprogs", ("xfs_repair", "xfs_growfs")), "btrfs": ("btrfs-progs", ("btrfs",))}
"""Types that must be mounted for it -> the package (Debian's name) and its programs that the VM's host needs."""


class Blob(BaseModel):
    """One file of an image: name inside the image's folder, size in bytes, sha256 in hex."""

    file: str = Field(max_length=255)
    size: int = Field(ge=0, lt=2**63)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


_Word = Annotated[str, Field(max_length=131_072, pattern=r"^[^\x00]*$")]
"""Linux takes no longer word of a command or an environment (MAX_ARG_STRLEN), and none with NUL."""
Words = Annotated[list[_Word], Field(max_length=4096)]
Variables = Annotated[list[Annotated[str, Field(max_length=131_072, pattern=r"^[^\x00=]+=[^\x00]*$")]], Field(max_length=4096)]
"""`NAME=value`"""
UserOfProcess = Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9._$-]*(:[A-Za-z0-9._$-]+)?$")]
StopSignal = Annotated[str, Field(max_length=16, pattern=r"^((SIG)?[A-Z][A-Z0-9+-]{1,12}|[0-9]{1,2})$")]
DirectoryOfProcess = Annotated[str, Field(max_length=4096, pattern=r"^/[^\x00\n]*$")]
ForPeople = Annotated[str, AfterValidator(shown)]
"""Chosen by the maker of an image. Characters that databases and terminals do not take are replaced."""


CommandOfVm = Annotated[
    Words | None,
    Field(description="for an image of a container: instead of its command, as arguments of its entrypoint"),
]
VariablesOfVm = Annotated[Variables, Field(description="for an image of a container: NAME=value, beside and instead of its own")]


class ImageProcess(BaseModel):
    """The process that an image of a container runs: the fields of its configuration (OCI image specification, config.md)."""

    entrypoint: Words = []
    command: Words = Field(default=[], description="arguments of the entrypoint, or the command where there is none")
    env: Variables = []
    user: UserOfProcess = Field(default="", description="USER or USER:GROUP, names or numbers; empty: root")
    directory: DirectoryOfProcess = "/"
    ports: list[ForPeople] = Field(default=[], max_length=256, description="exposed ports, such as 80/tcp; none is opened for it")
    volumes: list[ForPeople] = Field(default=[], max_length=256, description="folders for data; they are on the VM's disk")
    stop_signal: StopSignal = "SIGTERM"


class GuestProcess(BaseModel):
    """The process that a VM runs, complete: from its image and what the VM changes."""

    argv: Annotated[list[_Word], Field(min_length=1, max_length=8192)]
    env: Variables = []
    user: UserOfProcess = ""
    directory: DirectoryOfProcess = "/"
    stop_signal: StopSignal = "SIGTERM"


class ImageManifest(BaseModel):
    """`image.json` in `/srv/images/<name>/`, beside its files. A builder writes it and a registry reads it.

    `kernel` is a bzImage or ELF that QEMU accepts; `kernel_elf` an uncompressed ELF `vmlinux` for Firecracker.
    """

    name: str = Field(pattern=IMAGE_NAME_PATTERN)
    description: ForPeople = ""
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
    ssh_server: bool | None = Field(default=None, description="whether it has an SSH server; None: not known")
    min_memory_mib: int = 64
    min_disk_mib: int = 16
    created_at: datetime
    origin: str = Field(
        default="", max_length=512, description="where it was pulled from, such as docker.io/library/nginx:alpine"
    )
    digest: str = Field(default="", max_length=80, description="of what was pulled, such as sha256:…")
    process: ImageProcess | None = Field(default=None, description="None: the image boots an init of its own")


class Download(BaseModel):
    """Progress of an image download: bytes of all its files."""

    done: int = 0
    total: int
    step: str = Field(default="", description="what happens now, for people")


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
    origin: str = Field(default="", description="where it was pulled from")
    digest: str = Field(default="", description="of what was pulled")
    manifest: ImageManifest
    download: Download | None = Field(default=None, description="None: nothing is being fetched")


class ImageList(BaseModel):
    items: list[Image]
    total: int


class CloudImage(BaseModel):
    """A cloud image that root can import on the manager's host."""

    name: str = Field(description="in the catalogue, such as debian:13")
    aliases: tuple[str, ...] = ()
    description: str = ""
    image: str = Field(description="name of the image that an import makes")


class CloudImageList(BaseModel):
    items: list[CloudImage]
    total: int


class ImageAdd(BaseModel):
    """Register an image. `path`: a folder with `image.json` below an allowed root on the manager's machine.

    `url`: of an `image.json` beside its files, with its `sha256`.
    """

    name: str = Field(pattern=IMAGE_NAME_PATTERN)
    path: str | None = Field(default=None, max_length=4096)
    url: str | None = Field(default=None, max_length=8192)
    sha256: str | None = Field(default=None, max_length=64)


class RegistryLogin(BaseModel):
    """Credentials of a registry. The manager uses them for one pull and does not store them."""

    username: str = Field(min_length=1, max_length=255, pattern=r"^[^:\x00-\x1f]+$")
    password: str = Field(max_length=65_536, repr=False)


class ImagePull(BaseModel):
    """POST /v1/images/pull: make an image of what `reference` names in a source, such as a registry of container images."""

    reference: str = Field(min_length=1, max_length=255)
    name: str | None = Field(default=None, pattern=IMAGE_NAME_PATTERN, description="made from the reference when absent")
    login: RegistryLogin | None = None
    tls_verify: bool = Field(default=True, description="False: plain HTTP and unknown certificates are accepted")
