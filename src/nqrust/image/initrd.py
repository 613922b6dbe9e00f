"""The initrd of image `tiny`: busybox, the virtio drivers, and an `/init` that mounts the disk and hands over."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image import cpio, modules, resources
from nqrust.image.errors import ImageError
from nqrust.image.kernel import GuestFiles

# Required drivers, then optional ones: the power button and its events (ACPI shutdown), the host's randomness, and the host's
# way to the guest agent (a port of QEMU, vsock of Firecracker). Some kernels have these built in.
REQUIRED = ("virtio_blk", "virtio_net", "virtio_pci", "ext4")
OPTIONAL = ("virtio_mmio", "af_packet", "button", "evdev", "virtio_rng", "virtio_console", "vmw_vsock_virtio_transport")
_APPLETS = ("sh", "mount", "insmod", "switch_root", "poweroff", "reboot", "sleep", "usleep", "mkdir", "cat", "echo")


def build(host: Host, files: GuestFiles) -> bytes:
    """Return the archive, uncompressed: a guest unpacks that faster than it could decompress it, above all under emulation.

    Raises ImageError NQR-IMG-005 if the kernel lacks a required driver.
    """
    loaded = drivers(host, files, REQUIRED, OPTIONAL)
    entries = [
        *[cpio.directory(name) for name in ("bin", "dev", "proc", "sys", "root", "modules")],
        cpio.character_device("dev/console", 5, 1),
        cpio.character_device("dev/null", 1, 3, 0o666),
        cpio.file("bin/busybox", host.read_bytes(files.busybox), 0o755),
        *[cpio.symlink(f"bin/{name}", "busybox") for name in _APPLETS],
        cpio.file("init", resources.read("tiny/initrd-init"), 0o755),
        # Numbered, so that the shell's own ordering is the load order.
        *[cpio.file(f"modules/{at:02d}-{driver.name}.ko", driver.data) for at, driver in enumerate(loaded)],
    ]
    return cpio.archive(entries)


def drivers(host: Host, files: GuestFiles, required: Iterable[str], optional: Iterable[str]) -> list[modules.Module]:
    """Return modules with their dependencies in load order, without those built into the kernel.

    Raises ImageError NQR-IMG-005 if the kernel lacks a required one.
    """
    found = {
        modules.module_name(path): path
        for path in host.glob(f"{files.modules}/kernel/**/*.ko*")
        if path.endswith(modules.SUFFIXES)
    }
    builtin = modules.builtin_names(host.read_text(f"{files.modules}/modules.builtin"))
    needed, missing = modules.closure(required, found, builtin, lambda path: _content(host, path))
    if missing:
        raise ImageError(
            "NQR-IMG-005",
            f"The kernel {files.version} lacks drivers that guests need: {', '.join(missing)}.",
            "Use the distribution's cloud or virtual kernel flavour.",
        )
    extra, _ = modules.closure(optional, found, builtin, lambda path: _content(host, path))
    known = {module.name for module in needed}
    return [*needed, *[module for module in extra if module.name not in known]]


def _content(host: Host, path: str) -> bytes:
    data = host.read_bytes(path)
    if not path.endswith(".zst"):
        return modules.unpack(path, data)
    plain = path.removesuffix(".zst")
    try:
        host.run(command("zstd", "-d", "-f", "-q", path, "-o", plain, timeout=60))
        return host.read_bytes(plain)
    except HostError as error:
        raise ImageError(
            "NQR-IMG-005", f"A kernel module could not be unpacked: {error}.", "Install the program zstd, then run again."
        ) from error
