"""Checks of the machine itself: distribution, architecture, kernel, memory, disk, virtualisation, clock."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.installer.distro import registry
from nqrust.installer.preflight.findings import Finding, error, info, warning
from nqrust.installer.settings.model import Settings, VmmChoice

MIN_KERNEL = (4, 14)
MIN_MEMORY_MIB = 2000
"""2 GB in vendors' units: a machine sold with 2 GB has less than 2,048 MiB."""
MIN_DISK_MIB = 20_000
MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
"""Flag of the CPU -> kernel module for /dev/kvm. Not by vendor: Zhaoxin's processors have vmx, Hygon's have svm."""
OLDEST_CLOCK = 1_735_689_600  # 2025-01-01: an earlier clock breaks every certificate


def operating_system(facts: Facts) -> Iterator[Finding]:
    if why := registry.refusal(facts.os):
        yield error(
            "NQR-PRE-002",
            why,
            registry.advice(),
        )


def architecture(facts: Facts) -> Iterator[Finding]:
    if facts.kernel.machine != "x86_64":
        yield error(
            "NQR-PRE-003",
            f"This machine is {facts.kernel.machine}; x86_64 is needed.",
            "Use an x86_64 machine.",
        )


def kernel(facts: Facts) -> Iterator[Finding]:
    if facts.kernel.version < MIN_KERNEL:
        yield error(
            "NQR-PRE-004",
            f"Kernel {facts.kernel.release} is too old; 4.14 or newer is needed.",
            "Install a newer kernel of your distribution and reboot.",
        )


def memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory.total_mib < MIN_MEMORY_MIB:
        yield error(
            "NQR-PRE-005",
            f"This machine has {facts.memory.total_mib} MiB of memory; 2 GB are needed.",
            "Give the machine more memory, or accept it with --ignore-preflight NQR-PRE-005.",
        )


def disk(facts: Facts) -> Iterator[Finding]:
    for fs in facts.file_systems:
        if fs.read_only:
            yield error(
                "NQR-PRE-018",
                f"The file system of {fs.path} ({fs.mount_point}) is read-only.",
                "Mount it writable, or choose other folders with DATA_DIR, IMAGE_DIR and INSTALL_DIR.",
            )
        elif fs.total_mib < MIN_DISK_MIB:
            yield error(
                "NQR-PRE-006",
                f"The file system of {fs.path} ({fs.mount_point}) has {fs.total_mib} MiB; 20 GB are needed.",
                "Use a larger disk, or accept it with --ignore-preflight NQR-PRE-006.",
            )
        elif fs.available_mib < 3000:
            yield error(
                "NQR-PRE-006",
                f"Only {fs.available_mib} MiB are free for {fs.path} ({fs.mount_point}).",
                "Free at least 3 GB there.",
            )
        if not fs.read_only and 0 <= fs.inodes_available < 20_000 and fs.fstype not in ("btrfs", "xfs", "zfs"):
            yield error(
                "NQR-PRE-018",
                f"The file system of {fs.path} ({fs.mount_point}) is nearly out of inodes.",
                "Remove files there, or make a file system with more inodes.",
            )


def virtualisation(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """Check KVM. Missing KVM is fine on a host without VMs. With `auto`, VMs run under emulation, with a warning."""
    if not settings.has_agent:
        return
    usable = facts.kvm.present and facts.kvm.usable
    if settings.vmm is VmmChoice.firecracker and not usable:
        yield error(
            "NQR-PRE-009",
            f"Firecracker needs KVM, and /dev/kvm does not work here ({facts.kvm.reason or 'missing'}).",
            "Enable virtualization in the firmware or the cloud instance type, or install with --vmm auto.",
        )
    elif not usable:
        yield warning(
            "NQR-PRE-009",
            f"KVM does not work here ({facts.kvm.reason or '/dev/kvm is missing'}): VMs will run under QEMU "
            "emulation, many times slower.",
            "Enable virtualization in the firmware or the cloud instance type.",
        )
    if facts.cpu.virtualisation is None and usable and facts.kvm.module:
        yield info(
            "NQR-PRE-010",
            f"KVM of this host comes from {facts.kvm.module}, without vmx or svm in the CPU. "
            "A test VM will check whether it works.",
        )
    elif facts.cpu.virtualisation is None:
        yield warning(
            "NQR-PRE-008",
            "CPU virtualization not detected"
            + (", but /dev/kvm opens. A test VM will check whether KVM works." if usable else "."),
            "Enable VT-x or AMD-V in the firmware, or nested virtualization on the hypervisor.",
        )
    if usable and facts.kvm.virtual_host:
        yield info("NQR-PRE-010", f"This machine is itself a guest ({facts.kvm.virtual_host}): VMs here are nested.")
    loads = facts.kernel.modules_loadable and facts.cpu.virtualisation in MODULES and not facts.container
    if settings.nested and not loads and facts.kvm.nested is not True:
        yield error(
            "NQR-PRE-051",
            "The settings ask for nested virtualization, but this host cannot load the kvm module.",
            "Install with --no-nested, or use a machine whose kernel loads kvm_intel or kvm_amd.",
        )
    elif settings.nested and facts.kvm.nested is False:
        yield warning(
            "NQR-PRE-010",
            "Nested virtualization takes effect when the kvm module is loaded again.",
            "Reboot after the installation.",
        )


def clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock_utc and facts.clock_utc < OLDEST_CLOCK:
        yield error(
            "NQR-PRE-017",
            "The clock of this machine is years behind, so certificates would not be valid.",
            "Set the clock (timedatectl set-ntp true) and run the same command again.",
        )
    elif facts.clock_synchronised is False:
        yield info("NQR-PRE-017", "The clock is not synchronized. Tokens and certificates depend on it.")


def checks(settings: Settings, facts: Facts) -> Iterator[Finding]:
    yield from operating_system(facts)
    yield from architecture(facts)
    yield from kernel(facts)
    yield from memory(facts)
    yield from disk(facts)
    yield from virtualisation(settings, facts)
    yield from clock(facts)
