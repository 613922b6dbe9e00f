"""Makes an image of the platform from a disk image: raw root file system, kernel, initrd, and an ELF kernel for Firecracker.

The root file system leaves its partition and becomes the whole disk. It is never mounted. Nothing is registered before it is
known which VMMs can boot it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.host.errors import PathError
from nqrust.host.port import Host
from nqrust.image import folder
from nqrust.image.cloud import agent_files, disk, fstab, initrd_names, kernels
from nqrust.image.cloud.disk import Found
from nqrust.image.cloud.filesystems import READERS, Reader, write_ext4
from nqrust.image.cloud.sandbox import Sandbox, opened
from nqrust.image.errors import ImageError
from nqrust.image.progress import Progress, silent
from nqrust.image.vmlinux import write_vmlinux

_SCRATCH = "scratch"
_KERNEL_LIMIT, _INITRD_LIMIT, _TEXT_LIMIT = 128 << 20, 512 << 20, 1 << 20
_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_MIN_MEMORY_MIB = 512
_CURE = "Use another image of the distribution: the cloud or virtual flavour with an ext4 root."


@dataclass(frozen=True)
class Imported:
    """`not_firecracker`: why Firecracker cannot boot the image, empty if it can. `unsure`: the kernel's drivers are not known."""

    manifest: ImageManifest
    not_firecracker: str
    unsure: bool
    guest_agent: bool


def build(
    host: Host,
    *,
    source: Callable[[str], None],
    target_dir: str,
    name: str,
    description: str = "",
    format: str | None = None,
    guest_agent: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Build the image in `target_dir`, as `tiny.build` does.

    `source` writes the disk image to the path that it gets. `format`: one of formats.FORMATS, detected if absent. `guest_agent`:
    path of the program, or None to leave the image without. Raises ImageError NQR-IMG-050 to -057, -091, HostError.
    """
    tell = progress or silent
    if guest_agent is not None:
        folder.check_guest_agent(host, guest_agent)
    told: list[Imported] = []

    def fill(place: str) -> ImageManifest:
        sandbox = opened(host, f"{place}/{_SCRATCH}", disk.LARGEST)
        source(sandbox.path(disk.SOURCE))
        host.set_mode(sandbox.path(disk.SOURCE), mode=0o600, owner=str(sandbox.user), group=str(sandbox.user))
        tell("converting the disk", 0.5)
        disk_file, size = disk.raw(sandbox, format)
        tell("looking for the root file system", 0.7)
        found, others = disk.file_systems(sandbox, disk_file, size)
        try:
            result = _made(sandbox, place, found, others, name, description, guest_agent, tell)
        except PathError as error:
            raise ImageError("NQR-IMG-050", f"The image could not be taken apart: {error}.", _CURE) from error
        told.append(result)
        host.remove_tree(sandbox.folder)
        return result.manifest

    folder.replace(host, target_dir, fill)
    tell(f"image {name} is ready", 1.0)
    return told[0]


def _made(
    sandbox: Sandbox,
    place: str,
    found: list[Found],
    others: list[str],
    name: str,
    description: str,
    guest_agent: str | None,
    tell: Progress,
) -> Imported:
    host = sandbox.host
    root, release = _root(found, others)
    tell("taking the kernel out", 0.75)
    drivers = _kernel(sandbox, place, root, found)
    not_qemu, not_firecracker = kernels.why_not(drivers, root.kind)
    if not_qemu:
        raise ImageError("NQR-IMG-055", f"No VMM can boot the image: {not_qemu}.", _CURE)
    if not not_firecracker:
        try:
            write_vmlinux(host, f"{place}/{folder.KERNEL}", f"{place}/{folder.KERNEL_ELF}")
        except ImageError as error:
            not_firecracker = error.what.rstrip(".")
    tell("preparing the root file system", 0.85)
    ssh_server = "sshd" in root.reader.names("/usr/sbin")
    cmdline, added = _prepared(sandbox, root, guest_agent)
    rootfs = f"rootfs.{root.kind}"
    sandbox.take(root.part, f"{place}/{rootfs}", disk.LARGEST)
    tell("checking the image", 0.95)
    manifest = ImageManifest(
        name=name,
        description=description or release,
        rootfs=folder.blob(host, place, rootfs),
        rootfs_type=root.kind,
        kernel=folder.blob(host, place, folder.KERNEL),
        kernel_elf=None if not_firecracker else folder.blob(host, place, folder.KERNEL_ELF),
        initrd=folder.blob(host, place, folder.INITRD) if host.exists(f"{place}/{folder.INITRD}") else None,
        cmdline=cmdline,
        ssh_server=ssh_server,
        min_memory_mib=_MIN_MEMORY_MIB,
        min_disk_mib=-(-root.size >> 20),
        created_at=datetime.fromtimestamp(int(host.now()), timezone.utc),
    )
    host.write_file(f"{place}/{MANIFEST}", manifest.model_dump_json(indent=2).encode() + b"\n")
    return Imported(manifest, not_firecracker, drivers.built_in is None, added)


def _root(found: list[Found], others: list[str]) -> tuple[Found, str]:
    """Return the root file system and the name of its distribution. Raises ImageError NQR-IMG-050."""
    for one in sorted(found, key=lambda one: (not one.says_root, -one.size)):
        text = next((data for path in _RELEASE if (data := one.reader.read(path, _TEXT_LIMIT))), None)
        if text is not None:
            return one, _pretty(text.decode("utf-8", "replace"))
    seen = ", ".join([*(one.kind for one in found), *others]) or "none"
    raise ImageError(
        "NQR-IMG-050",
        f"The image has no root file system that nqr can read (found: {seen}).",
        f"Use an image whose root is {', '.join(READERS)}, outside of LVM, encryption and Btrfs subvolumes.",
    )


def _pretty(release: str) -> str:
    """Return PRETTY_NAME of os-release(5), printable and short."""
    line = next((line for line in release.splitlines() if line.startswith("PRETTY_NAME=")), "")
    text = line.partition("=")[2].strip().strip("\"'")
    return "".join(one for one in text if one.isprintable())[:100]


def _kernel(sandbox: Sandbox, place: str, root: Found, found: list[Found]) -> kernels.Drivers:
    """Put kernel and initrd into `place` and return what is known about the drivers. Raises ImageError NQR-IMG-054."""
    host = sandbox.host
    places = [(root.reader, "/boot"), *((one.reader, "") for one in found if one is not root)]  # the others: a /boot of its own
    for reader, where in places:
        kernel = kernels.newest(reader.names(where or "/"))
        if kernel is None or not reader.take(f"{where}/{kernel.name}", f"{place}/{folder.KERNEL}", _KERNEL_LIMIT):
            continue
        files: set[str] = set()
        if kernel.initrd and reader.take(f"{where}/{kernel.initrd}", f"{place}/{folder.INITRD}", _INITRD_LIMIT):
            try:
                files = initrd_names.names(host.read_bytes(f"{place}/{folder.INITRD}"))
            except ValueError as error:
                raise ImageError("NQR-IMG-054", f"The initrd {kernel.initrd} cannot be read: {error}.", _CURE) from error
        return kernels.Drivers(_built_in(reader, where, kernel), kernels.in_initrd(files))
    raise ImageError("NQR-IMG-054", "The image has no kernel in /boot.", _CURE)


def _built_in(reader: Reader, where: str, kernel: kernels.Kernel) -> frozenset[str] | None:
    text = reader.read(f"{where}/{kernel.config}", _TEXT_LIMIT) if kernel.config else None
    return None if text is None else kernels.built_in(text.decode("utf-8", "replace"))


def _prepared(sandbox: Sandbox, root: Found, guest_agent: str | None) -> tuple[str, bool]:
    """Make the root file system fit for a disk of its own. Return additions to the command line, and whether it has the agent."""
    found = root.reader.read("/etc/fstab", _TEXT_LIMIT)
    text = found.decode("utf-8", "replace") if found else ""
    if root.kind != "ext4":  # nothing writes into it before the VM's host does
        return ("fstab=no" if any(map(fstab.is_lost, text.splitlines())) else ""), False
    files: list[tuple[str, bytes, int]] = []
    if text and (changed := fstab.rewritten(text)) != text:
        files.append(("/etc/fstab", changed.encode(), 0o644))
    added = agent_files.Additions()
    if guest_agent is not None:
        added = agent_files.additions(root.reader, sandbox.host.read_bytes(guest_agent))
    if files or added.files:
        write_ext4(sandbox, root.part, [*files, *added.files], added.links)
    return "", bool(added.files)
