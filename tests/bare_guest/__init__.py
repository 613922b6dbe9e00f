"""A guest without a kernel (guest.c), as an image that QEMU and Firecracker boot in milliseconds, slow KVM or not."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from nqrust.contract.images import MANIFEST, Blob, ImageManifest

_FOLDER = Path(__file__).parent
_COMPILE = (
    *("gcc", "-m32", "-Os", "-std=gnu11", "-ffreestanding", "-fno-pic", "-no-pie", "-static", "-nostdlib", "-mno-sse"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-Wall", "-Wextra", "-Werror"),
    f"-Wl,-T,{_FOLDER / 'guest.ld'},--build-id=none,--no-warn-rwx-segments",
)
_DISK_MIB = 8


def build(folder: Path) -> Path:
    """Compile the guest into `folder`; its path. An ELF64 file, as Firecracker wants, of 32-bit code."""
    elf32, elf64 = folder / "guest32.elf", folder / "vmlinux"
    subprocess.run([*_COMPILE, "-o", elf32, _FOLDER / "guest.c"], check=True)
    subprocess.run(["objcopy", "-I", "elf32-i386", "-O", "elf64-x86-64", elf32, elf64], check=True)
    elf32.unlink()
    return elf64


def image(folder: Path, cmdline: str = "") -> ImageManifest:
    """Make `folder` an image: the guest as both kernels, and a small disk that it never looks at. `cmdline`: see guest.c."""
    kernel = build(folder)
    root, disk = folder / "root", folder / "rootfs.ext4"
    (root / "etc").mkdir(parents=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, disk, f"{_DISK_MIB}M"], check=True)
    manifest = ImageManifest(
        name="bare",
        rootfs=_blob(disk),
        kernel=_blob(kernel),
        kernel_elf=_blob(kernel),
        cmdline=cmdline,
        created_at=datetime.now(timezone.utc),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return manifest


def _blob(path: Path) -> Blob:
    data = path.read_bytes()
    return Blob(file=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
