"""QEMU's command line. Pure. qemu(1).

Machine: `q35` under TCG, where `microvm` hangs in timer calibration; `microvm` needs the guest's virtio-mmio and boots
faster, but q35 has ACPI's power button, which a graceful stop needs, so q35 is used under KVM too.
"""

from __future__ import annotations

from nqrust.agent.vmm.port import Machine
from nqrust.contract.guest import PORT_NAME
from nqrust.contract.vms import RateLimits

CONSOLE = "console=ttyS0 reboot=k panic=1"
_VOLUMES_FROM = 0x06
_GUEST_PORT_AT = 0x1E
KVM_CPU = "host,-arch-capabilities"
"""All that the host's CPU has, but for one feature: QEMU aborts where it is announced and a nested host lacks its MSR (0x10a).
It only tells a guest which mitigations it may leave out."""
_ERRORS = ",werror=enospc,rerror=report"


def qmp_socket(directory: str) -> str:
    return f"{directory}/run/qmp.sock"


def guest_socket(directory: str) -> str:
    return f"{directory}/run/guest.sock"


def kernel_command_line(machine: Machine) -> str:
    """Return the kernel's command line. `no_timer_check` turns off the kernel's timer test.

    That test counts interrupts in a busy loop. It panics if an emulator on a busy processor delivers them late. Under KVM the
    kernel skips the test.
    """
    emulated = "no_timer_check" if machine.accel == "tcg" else ""
    parts = (CONSOLE, f"root={machine.root_device} rw", emulated, machine.cmdline)
    return " ".join(part for part in parts if part)


def throttling(limits: RateLimits) -> str:
    """Return the limits that are appended to a `-drive`. Reads and writes count together."""
    bytes_a_second = f",throttling.bps-total={limits.disk_kib * 1024}" if limits.disk_kib else ""
    return bytes_a_second + (f",throttling.iops-total={limits.disk_iops}" if limits.disk_iops else "")


def arguments(program: str, machine: Machine, board: str = "q35", *, header: bool = False) -> tuple[str, ...]:
    """Return the argv of a VM whose first serial port is the terminal of the process.

    `board`: the machine type with its version, from a snapshot. The plain name is a different board in each version of QEMU.

    `header`: whether the guest may leave checksums and the division of packets to the host, as in snapshots of earlier versions.
    The host's rules see such a frame before that is done: network/detours.py.
    `-no-reboot`: a guest's reboot or panic ends the process, so that a live scope means a live guest.
    `werror=enospc`: a write that finds the host's disk full stops the guest instead of failing in it. Other errors reach the
    guest.
    Volumes have their own PCI slots, so that guests keep the names of the NIC and other volumes after one comes or goes.
    `romfile=`: nothing boots from the network, and the ROM's package may be missing.
    `-S`: the guest waits until its TAP is a port of the host's bridge.
    `-sandbox`: seccomp. QEMU needs neither new programs nor other users at run time.
    """
    kvm = machine.accel == "kvm"
    limited = throttling(machine.rate_limits)
    volumes: list[str] = []
    for number, path in enumerate(machine.volumes, start=1):
        volumes += ["-drive", f"if=none,id=disk{number},format=raw,file={_escaped(path)}{_ERRORS}{limited}"]
        volumes += ["-device", f"virtio-blk-pci,drive=disk{number},addr={_VOLUMES_FROM + number - 1:#x}"]
    initrd = ("-initrd", machine.initrd) if machine.initrd else ()
    return (
        program,
        "-name",
        f"guest={machine.name}",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-S",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        f"{board},accel={'kvm' if kvm else 'tcg'}",
        *(("-cpu", KVM_CPU) if kvm else ()),
        "-smp",
        str(machine.vcpus),
        "-m",
        f"{machine.memory_mib}M",
        "-kernel",
        machine.kernel,
        *initrd,
        "-append",
        kernel_command_line(machine),
        "-drive",
        f"if=none,id=disk0,format=raw,file={_escaped(machine.disk)}{_ERRORS}{limited}",
        "-device",
        "virtio-blk-pci,drive=disk0",
        *volumes,
        "-netdev",
        f"tap,id=net0,ifname={machine.tap},script=no,downscript=no,vnet_hdr={'on' if header else 'off'}",
        "-device",
        f"virtio-net-pci,netdev=net0,mac={machine.mac},romfile=",
        "-device",
        "virtio-rng-pci",
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
        *(guest_port(machine.directory) if machine.guest_exec else ()),
        "-qmp",
        f"unix:{_escaped(qmp_socket(machine.directory))},server=on,wait=off",
        *(("-incoming", "defer") if machine.snapshot else ()),
    )


def guest_port(directory: str) -> tuple[str, ...]:
    """Return the options of the port that leads to the guest agent. It has its own PCI slot: the guest keeps the names of the
    NIC and the disks."""
    return (
        "-device",
        f"virtio-serial-pci,id=guest,max_ports=2,addr={_GUEST_PORT_AT:#x}",
        "-chardev",
        f"socket,id=guest,path={_escaped(guest_socket(directory))},server=on,wait=off",
        "-device",
        f"virtserialport,bus=guest.0,chardev=guest,name={PORT_NAME}",
    )


def _escaped(value: str) -> str:
    """Double the commas inside an option's value."""
    return value.replace(",", ",,")
