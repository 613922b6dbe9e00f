"""What a VMM driver does. The agent runs the VMM in a scope; the driver knows its command line and its control socket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from nqrust.contract.vms import RateLimits

UNLIMITED = RateLimits()


@dataclass(frozen=True)
class Machine:
    """A VM with everything resolved to paths of this host. `directory` is its own folder; sizes in MiB."""

    id: str
    name: str
    vcpus: int
    memory_mib: int
    directory: str
    disk: str
    kernel: str
    mac: str
    tap: str
    accel: str  # kvm | tcg
    kernel_elf: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    root_device: str = "/dev/vda"
    volumes: tuple[str, ...] = ()
    """From vdb on, in this order and without a gap: a guest's kernel counts them."""
    rate_limits: RateLimits = UNLIMITED
    snapshot: str | None = None
    """Folder of the snapshot that `load` will bring; None for a boot."""


@dataclass(frozen=True)
class Capabilities:
    accelerators: frozenset[str]
    elf_kernel: bool = False  # boots an uncompressed ELF kernel only
    pause: bool = True
    snapshot: bool = False
    network_limits: bool = False  # limits the guest's network by itself; else its TAP is limited


class RunState(str, Enum):
    """What the VMM itself says."""

    running = "running"
    paused = "paused"
    unconfigured = "unconfigured"  # the process is there, no guest was ever started in it
    silent = "silent"  # its control socket does not answer


class Vmm(Protocol):
    """Methods that talk to a running VMM take the VM's `directory` and raise Failed with an NQR-VMM code."""

    name: str
    capabilities: Capabilities

    def argv(self, machine: Machine) -> tuple[str, ...]:
        """The program and its arguments, to be run with the serial port on its terminal. Raises Failed when the program
        is not installed, Refused when the machine cannot run under this VMM."""
        ...

    def prepare(self, machine: Machine) -> None:
        """What must be there (or gone) before the program starts: stale sockets, log files."""
        ...

    def configure(self, machine: Machine) -> None:
        """Bring the started program to a booting guest; returns when the guest runs."""
        ...

    def state(self, directory: str) -> RunState: ...

    def shut_down(self, directory: str) -> None:
        """Ask the guest to power off. Returns at once."""
        ...

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        """From now on the running VM, with that many drives beside its own disk, moves no more than `limits` allow."""
        ...

    def pause(self, directory: str) -> None: ...

    def resume(self, directory: str) -> None: ...

    def snapshot(self, directory: str, folder: str) -> None:
        """Write state and memory of the paused guest into `folder`. Only with `capabilities.snapshot`."""
        ...

    def load(self, machine: Machine, folder: str) -> None:
        """In place of `configure`: let the guest go on from what `snapshot` wrote. Only with `capabilities.snapshot`."""
        ...
