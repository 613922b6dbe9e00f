"""Tests whether this host can run a VM: it boots the tiny kernel under a deadline.

A /dev/kvm that exists, opens, and even runs a few instructions proves nothing: nested and paravirtual hosts do all of that
and hang on a stock kernel. The verdict is therefore a boot.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Literal

from nqrust.contract.images import MANIFEST, ImageManifest
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, ProgramMissing
from nqrust.host.port import Command, Host, command

QEMU = "qemu-system-x86_64"
MARKER = "NQR-CANARY-BOOTED"
FLAG = "nqr.canary"
PROGRAMS = (QEMU, "/usr/libexec/qemu-kvm")  # the second is RHEL's
PROCESSOR_SECONDS = 5
"""Processor time for a boot under KVM. The same boot takes 2 s of it under emulation, so a KVM that needs more is of no use. A busy
host makes a boot longer, but does not make it use more processor time."""


@dataclass(frozen=True)
class Verdict:
    """`seconds`: the boot's duration, or its deadline. `reason`: a sentence for people."""

    booted: bool
    seconds: float
    reason: str

    def to_json(self) -> str:
        return json.dumps({"booted": self.booted, "seconds": round(self.seconds, 2), "reason": self.reason})


def argv(qemu: str, folder: str, manifest: ImageManifest, accel: Literal["kvm", "tcg"]) -> tuple[str, ...]:
    """Return the canary's command line: no disk, no network, the serial port on standard output."""
    machine = "microvm,rtc=on" if accel == "kvm" else "q35"
    initrd = ("-initrd", f"{folder}/{manifest.initrd.file}") if manifest.initrd else ()
    return (
        qemu,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        f"{machine},accel={accel}",
        "-cpu",
        "host,-arch-capabilities" if accel == "kvm" else "max",  # (QEMU aborts where a nested host lacks its MSR)
        "-m",
        str(max(manifest.min_memory_mib, 128)),
        "-smp",
        "1",
        "-kernel",
        f"{folder}/{manifest.kernel.file}",
        *initrd,
        "-append",
        f"console=ttyS0 panic=1 reboot=k {manifest.cmdline} {FLAG}",
        "-serial",
        "stdio",
    )


def firecracker_config(folder: str, manifest: ImageManifest) -> bytes:
    """The canary for `firecracker --no-api --config-file`. Raises ValueError: the image has no kernel for it."""
    if manifest.kernel_elf is None:
        raise ValueError("it has no uncompressed kernel")
    boot = {
        "kernel_image_path": f"{folder}/{manifest.kernel_elf.file}",
        "boot_args": f"console=ttyS0 reboot=k panic=1 pci=off {manifest.cmdline} {FLAG}",
    }
    if manifest.initrd:
        boot["initrd_path"] = f"{folder}/{manifest.initrd.file}"
    machine = {"vcpu_count": 1, "mem_size_mib": max(manifest.min_memory_mib, 128)}
    return json.dumps({"boot-source": boot, "drives": [], "machine-config": machine}).encode()


def boot_firecracker_canary(host: Host, program: str, manifest_dir: str, *, deadline: float = 15.0) -> Verdict:
    """As `boot_canary`, under the Firecracker at the path `program`, which knows KVM only. Never raises."""
    try:
        manifest = ImageManifest.model_validate_json(host.read_bytes(f"{manifest_dir}/{MANIFEST}"))
        config = firecracker_config(manifest_dir, manifest)
    except (HostError, ValueError) as error:
        return Verdict(False, 0.0, f"No image to boot: {error}.")
    # Its log shares standard output with the serial port, and a line of it can land in the middle of the marker.
    words = (*_limit(), program, "--no-api", "--level", "Error", "--config-file", "/dev/stdin")
    booting = command(*words, input=config, timeout=deadline)
    return _watched(host, booting, "Firecracker", "KVM", deadline)


def boot_canary(host: Host, manifest_dir: str, *, accel: Literal["kvm", "tcg"], deadline: float = 15.0) -> Verdict:
    """Boot the image in `manifest_dir` into its initrd. QEMU is ended after `deadline` seconds, and under KVM also after
    PROCESSOR_SECONDS. Never raises."""
    try:
        manifest = ImageManifest.model_validate_json(host.read_bytes(f"{manifest_dir}/{MANIFEST}"))
    except (HostError, ValueError) as error:
        return Verdict(False, 0.0, f"No image to boot: {error}.")
    if accel == "kvm" and host.stat("/dev/kvm") is None:
        return Verdict(False, 0.0, "There is no /dev/kvm on this host.")
    qemu = next((path for path in map(host.which, PROGRAMS) if path), None)
    if qemu is None:
        return Verdict(False, 0.0, "QEMU is not installed on this host.")
    limit = _limit() if accel == "kvm" else ()
    booting = command(*limit, *argv(qemu, manifest_dir, manifest, accel), timeout=deadline)
    return _watched(host, booting, "QEMU", accel.upper(), deadline)


def _limit() -> tuple[str, ...]:
    return ("prlimit", f"--cpu={PROCESSOR_SECONDS}")


def _watched(host: Host, booting: Command, vmm: str, accel: str, deadline: float) -> Verdict:
    started = host.monotonic()
    arrived: list[float] = []

    def heard(line: str) -> None:
        if MARKER in line and not arrived:
            arrived.append(host.monotonic() - started)

    try:
        host.run(booting, on_line=heard)
        failure = "The machine ended before its kernel had started."
    except CommandTimedOut:
        failure = f"The kernel did not start within {deadline:g} s under {accel}."
    except CommandFailed as error:
        last = (error.stderr.strip() or "no message").splitlines()[-1]
        failure = f"{vmm} ended with {error.code}: {last}."
        # Nothing in the end itself tells the limit from another SIGKILL, for instance for lack of memory.
        if error.code == -signal.SIGKILL and host.monotonic() - started > PROCESSOR_SECONDS / 2:
            failure = f"The kernel did not start within {PROCESSOR_SECONDS} s of processor time under {accel}."
    except (ProgramMissing, HostError) as error:
        failure = f"{vmm} could not be run: {error}."
    spent = host.monotonic() - started
    if arrived:
        return Verdict(True, arrived[0], f"A canary booted under {accel} in {arrived[0]:.1f} s.")
    return Verdict(False, spent, failure)
