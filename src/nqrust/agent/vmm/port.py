"""The interface of a VMM driver.

The agent runs the VMM in a scope. The driver knows its command line and its control socket.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from nqrust.contract.vms import RateLimits

UNLIMITED = RateLimits()

_MIB = 1 << 20


def largest_saved(memory_mib: int) -> int:
    """Return the most bytes that saved memory takes: the guest's, headers of pages (8 bytes each), and the devices'."""
    return (memory_mib + memory_mib // 64 + 256) * _MIB


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
    user: int
    accel: str  # kvm | tcg
    kernel_elf: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    disk_moves: bool = False
    """Whether the disk gets another name after the program has started."""
    root_device: str = "/dev/vda"
    volumes: tuple[str, ...] = ()
    """From vdb on, in this order and without gaps: a guest's kernel numbers them."""
    rate_limits: RateLimits = UNLIMITED
    snapshot: str | None = None
    """Folder of the snapshot that `load` restores, or None for a boot."""
    guest_exec: bool = False
    """Whether the host has a way to the guest agent."""


@dataclass(frozen=True)
class Capabilities:
    elf_kernel: bool = False  # boots an uncompressed ELF kernel only
    pause: bool = True
    snapshot: bool = False
    waits_for_room: bool = False  # stops the guest when a write finds the disk full, and repeats the write when resumed
    reads_disks_last: bool = False  # in `begin`; until then a new disk is written, in the file that the VMM may have open
    off_by_reset: bool = False  # a guest cannot switch its machine off, and nqr's own images reset it instead
    network_limits: bool = False  # limits the guest's network; if not, the agent limits its TAP


class RunState(str, Enum):
    """State as the VMM reports it."""

    running = "running"
    paused = "paused"
    no_room = "no room"  # the VMM stopped the guest: a write found the host's disk full
    unconfigured = "unconfigured"  # the process runs, but no guest was started in it
    silent = "silent"  # the control socket does not answer


class Vmm(Protocol):
    """A driver. Methods that talk to a running VMM take the VM's `directory` and raise Failed with an NQR-VMM code."""

    name: str
    capabilities: Capabilities
    exit_signals: dict[int, int]
    """Exit statuses of the VMM's own for signals that it caught -> 128 + the signal, as a shell counts."""

    def argv(self, machine: Machine) -> tuple[str, ...]:
        """Return program and arguments; the serial port is on their terminal.

        Raises Failed if the program is not installed, Refused if the machine cannot run under this VMM.
        """
        ...

    def prepare(self, machine: Machine) -> None:
        """Prepare files before the program starts: remove stale sockets, create log files."""
        ...

    def mounts(self, machine: Machine) -> tuple[tuple[str, str], ...]:
        """Source and place of bind mounts that only the VM's own processes see."""
        ...

    def appeared(self, directory: str) -> bool:
        """Whether the control socket of the started program is there. Cheap, and no proof: the VM's user owns the folder."""
        ...

    def configure(self, machine: Machine) -> None:
        """Configure the started program. When this returns it has its TAP open, and waits for `begin`."""
        ...

    def begin(self, machine: Machine) -> None:
        """Boot the configured guest, or resume the loaded one. A machine that boots has its disks by now."""
        ...

    def state(self, directory: str) -> RunState: ...

    def shut_down(self, directory: str) -> None:
        """Ask the guest to power off. Returns at once."""
        ...

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        """Apply `limits` to the running VM, which has that many drives beside its own disk."""
        ...

    def connect_guest(self, directory: str) -> socket.socket:
        """Return a new connection to the guest agent's port. Raises OSError or HostError, also where the VM has none."""
        ...

    def pause(self, directory: str) -> None: ...

    def resume(self, directory: str) -> None: ...

    def snapshot(self, directory: str, folder: str, user: int, limit: int) -> None:
        """Write state and memory of the paused guest into `folder`, which is root's. Only with `capabilities.snapshot`.

        `user`: of the VM's processes. `limit`: bytes of the longest file that is accepted from them."""
        ...

    def load(self, machine: Machine, folder: str) -> None:
        """Replace `configure`: load the guest from the files of `snapshot`. Only with `capabilities.snapshot`."""
        ...
