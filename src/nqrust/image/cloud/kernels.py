"""Which kernel of a root file system boots, and under which VMM. Pure.

A kernel has a driver built in, or its initrd has the module: otherwise the guest does not find its disk. The kernel's own
configuration tells the first (`config-VERSION`, Documentation/kbuild/kconfig.rst), the names in the initrd the second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from nqrust.image import modules

_KERNEL = re.compile(r"(?:vmlinuz|bzImage|vmlinux|Image)-(.+)")
_INITRDS = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initramfs-{}", "initrd-{}.img")
_NO_KERNEL = re.compile(r"rescue|memtest|\.(?:old|bak|sig|hmac|signed|efi)$")
_QEMU = ("virtio_pci", "virtio_blk")
_FIRECRACKER = ("acpi", "virtio_mmio", "virtio_blk")
"""Firecracker describes its devices in ACPI tables. The kernels of clouds do not take them from the command line."""
_FILE_SYSTEMS = {"ext4": "ext4", "xfs": "xfs", "btrfs": "btrfs"}


@dataclass(frozen=True)
class Kernel:
    """Names in the folder of kernels. `initrd`, `config`: empty if there is none."""

    version: str
    name: str
    initrd: str = ""
    config: str = ""


@dataclass(frozen=True)
class Drivers:
    """The drivers of a kernel. `built_in`: None if its configuration is not in the image."""

    built_in: frozenset[str] | None
    in_initrd: frozenset[str]

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Return the drivers that are neither built in nor in the initrd. Empty if the configuration is not known."""
        if self.built_in is None:
            return []
        return [name for name in names if name not in self.built_in and name not in self.in_initrd]


def newest(names: Collection[str]) -> Kernel | None:
    """Return the newest kernel of a folder, with its initrd; one with an initrd goes before one without."""
    found = []
    for name in names:
        match = _KERNEL.fullmatch(name)
        if match is None or _NO_KERNEL.search(name):
            continue
        version = match[1]
        initrd = next((path for form in _INITRDS if (path := form.format(version)) in names), "")
        found.append(Kernel(version, name, initrd, _config(version, names)))
    return max(found, key=lambda kernel: (bool(kernel.initrd), _key(kernel.version)), default=None)


def _config(version: str, names: Collection[str]) -> str:
    """Alpine's `vmlinuz-virt` has its version in the name of the configuration alone."""
    if f"config-{version}" in names:
        return f"config-{version}"
    return max((name for name in names if re.fullmatch(rf"config-.+-{re.escape(version)}", name)), key=_key, default="")


def _key(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", version)]


def built_in(config: str) -> frozenset[str]:
    """Return the drivers that a kernel's configuration builds in, in lower case and without CONFIG_."""
    found = {name.lower() for name in re.findall(r"^CONFIG_([A-Z0-9_]+)=y$", config, re.MULTILINE)}
    return frozenset({"ext4" if name == "ext4_fs" else name.removesuffix("_fs") for name in found} | found)


def in_initrd(names: Iterable[str]) -> frozenset[str]:
    """Return the modules among the files of an initrd."""
    return frozenset(modules.module_name(name) for name in names if name.endswith(modules.SUFFIXES))


def why_not(drivers: Drivers, kind: str) -> tuple[str, str]:
    """Return why the kernel cannot boot a root of type `kind` under QEMU, and under Firecracker. Empty where it can."""
    return _lacks(drivers, (*_QEMU, _FILE_SYSTEMS[kind])), _lacks(drivers, (*_FIRECRACKER, _FILE_SYSTEMS[kind]))


def _lacks(drivers: Drivers, needed: Sequence[str]) -> str:
    lacking = drivers.lacking(needed)
    return f"its kernel and initrd lack {' and '.join(lacking)}" if lacking else ""
