"""The QEMU driver: a command line, and QMP for the rest. A snapshot is a migration into a file: see migration.py."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from typing import Any

from nqrust.agent import users, view
from nqrust.agent.errors import Failed
from nqrust.agent.vmm.port import Capabilities, Machine, RunState
from nqrust.agent.vmm.qemu import migration
from nqrust.agent.vmm.qemu.arguments import arguments, guest_socket, qmp_socket
from nqrust.agent.vmm.qemu.qmp import Qmp, QmpError
from nqrust.agent.vmm.sockets import connected
from nqrust.contract.vms import RateLimits
from nqrust.host.port import Host, command

_PROGRAMS = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")  # RHEL installs it outside PATH
_READY = 10.0  # seconds for the monitor to come up
_EXIT_SIGNALS: dict[int, int] = {}
_STATES = {
    **dict.fromkeys(("paused", "suspended", "postmigrate", "finish-migrate"), RunState.paused),
    "io-error": RunState.no_room,  # with `werror=enospc`, nothing else leads there
    "prelaunch": RunState.unconfigured,  # it waits for `begin`
    "inmigrate": RunState.unconfigured,  # it waits for the memory of a snapshot
}


class Qemu:
    name = "qemu"
    capabilities = Capabilities(snapshot=True, waits_for_room=True, reads_disks_last=True)
    exit_signals = _EXIT_SIGNALS

    def __init__(self, host: Host) -> None:
        self._host = host

    def argv(self, machine: Machine) -> tuple[str, ...]:
        program = next((found for name in _PROGRAMS if (found := self._host.which(name))), None)
        if program is None:
            raise Failed(
                "NQR-VMM-101", "QEMU is not installed on this host.", "Install it, or run `nqr install` again.", status=503
            )
        board, header = "q35", False
        if machine.snapshot is not None:
            board, header = migration.board(self._host, machine.snapshot), migration.has_header(self._host, machine.snapshot)
            machine = replace(machine, guest_exec=migration.has_guest_port(self._host, machine.snapshot))
        if machine.disk_moves:
            machine = replace(machine, disk=_shown_disk(machine))
        return (*users.become(machine.user), *arguments(program, machine, board, header=header))

    def prepare(self, machine: Machine) -> None:
        """Make nodes of the devices that QEMU opens, for its user alone. mknod(1); numbers of Linux, devices.txt."""
        owner, own = str(machine.user), view.own_devices(machine.directory)
        if machine.disk_moves:
            self._host.write_file(_shown_disk(machine), b"", mode=0o600, synced=False)
        self._host.mkdir(f"{own}/net", synced=False)
        for name, minor in (("net/tun", "200"), *((("kvm", "232"),) if machine.accel == "kvm" else ())):
            self._host.run(command("mknod", "-m", "0600", f"{own}/{name}", "c", "10", minor))
            self._host.set_mode(f"{own}/{name}", mode=0o600, owner=owner, group=owner)

    def mounts(self, machine: Machine) -> tuple[tuple[str, str], ...]:
        """QEMU opens a disk by its name again when it saves the memory. So a disk that moves has a name that stays."""
        return ((machine.disk, _shown_disk(machine)),) if machine.disk_moves else ()

    def appeared(self, directory: str) -> bool:
        return self._host.exists(qmp_socket(directory))

    def configure(self, machine: Machine) -> None:
        """Wait for QEMU's monitor: the TAP is open by then. QEMU needs no configuration, and makes no more files."""
        deadline = time.monotonic() + _READY
        while self.state(machine.directory) is RunState.silent:
            if time.monotonic() > deadline:
                raise _silent("it did not come up")
            time.sleep(0.005)
        users.seal(self._host, os.path.dirname(qmp_socket(machine.directory)), machine.user)

    def begin(self, machine: Machine) -> None:
        self._ask(machine.directory, "cont")

    def state(self, directory: str) -> RunState:
        try:
            with Qmp(qmp_socket(directory), timeout=2.0) as qmp:
                status = str(qmp.ask("query-status").get("status", ""))
        except QmpError:
            return RunState.silent
        return _STATES.get(status, RunState.running)

    def shut_down(self, directory: str) -> None:
        self._ask(directory, "system_powerdown")

    def connect_guest(self, directory: str) -> socket.socket:
        """QEMU serves one connection; others would wait."""
        return connected(guest_socket(directory))

    def pause(self, directory: str) -> None:
        self._ask(directory, "stop")

    def resume(self, directory: str) -> None:
        self._ask(directory, "cont")

    def snapshot(self, directory: str, folder: str, user: int, limit: int) -> None:
        migration.save(self._host, directory, folder)

    def load(self, machine: Machine, folder: str) -> None:
        """Load a snapshot. The command line sets disks, TAP and limits; the rest of the machine must be unchanged."""
        self.configure(machine)
        migration.load(machine.directory, folder)

    def limit(self, directory: str, volumes: int, limits: RateLimits) -> None:
        rates = {"bps": (limits.disk_kib or 0) * 1024, "iops": limits.disk_iops or 0}
        nothing = dict.fromkeys(("bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
        for number in range(volumes + 1):
            self._ask(directory, "block_set_io_throttle", device=f"disk{number}", **rates, **nothing)

    def _ask(self, directory: str, what: str, **arguments: Any) -> None:
        try:
            with Qmp(qmp_socket(directory)) as qmp:
                qmp.execute(what, **arguments)
        except QmpError as error:
            raise _silent(str(error)) from error


def _shown_disk(machine: Machine) -> str:
    return f"{machine.directory}/drive0"


def _silent(why: str) -> Failed:
    return Failed("NQR-VMM-105", f"QEMU's monitor does not answer ({why}).", "Stop the VM with force, then start it.", status=502)
