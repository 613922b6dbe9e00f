"""Runs where the scripts beside this run: starts an image under emulation, with its serial port on pipes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def start(image: Path, disk: Path, memory_mib: int, *more: str) -> subprocess.Popen[bytes]:
    """QEMU on a `disk` with the kernel, initrd and command line of the folder `image`. `more`: further arguments."""
    cmdline = json.loads((image / "image.json").read_text())["cmdline"]
    argv = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35,accel=tcg", "-cpu", "max", "-m", str(memory_mib), "-smp", "1",
        "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.cpio"),
        "-append", f"console=ttyS0 panic=1 reboot=k root=/dev/vda {cmdline}",
        "-serial", "stdio", "-drive", f"file={disk},format=raw,if=virtio", *more,
    ]  # fmt: skip
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
