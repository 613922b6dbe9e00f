"""The QEMU driver: a command line, and QMP for the rest."""

from __future__ import annotations

import time

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.vmm.port import Capabilities, Machine, RunState
from nqrust.agent.vmm.qemu.arguments import arguments, qmp_socket
from nqrust.agent.vmm.qemu.qmp import Qmp, QmpError
from nqrust.host.port import Host

_PROGRAMS = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")  # RHEL's stands outside PATH
_READY = 10.0  # seconds for the monitor to come up


class Qemu:
    name = "qemu"
    capabilities = Capabilities(accelerators=frozenset({"kvm", "tcg"}))

    def __init__(self, host: Host) -> None:
        self._host = host

    def argv(self, machine: Machine) -> tuple[str, ...]:
        program = next((found for name in _PROGRAMS if (found := self._host.which(name))), None)
        if program is None:
            raise Failed(
                "NQR-VMM-101", "QEMU is not installed on this host.", "Install it, or run `nqr install` again.", status=503
            )
        return arguments(program, machine)

    def prepare(self, machine: Machine) -> None:
        self._host.remove(qmp_socket(machine.directory))

    def configure(self, machine: Machine) -> None:
        """QEMU boots by itself; we wait for its monitor, so that what follows (a stop, a pause) finds it."""
        deadline = time.monotonic() + _READY
        while self.state(machine.directory) is RunState.silent:
            if time.monotonic() > deadline:
                raise _silent("it did not come up")
            time.sleep(0.02)

    def state(self, directory: str) -> RunState:
        try:
            with Qmp(qmp_socket(directory), timeout=2.0) as qmp:
                status = str(qmp.execute("query-status").get("status", ""))
        except QmpError:
            return RunState.silent
        return RunState.paused if status in ("paused", "suspended", "prelaunch") else RunState.running

    def shut_down(self, directory: str) -> None:
        self._ask(directory, "system_powerdown")

    def pause(self, directory: str) -> None:
        self._ask(directory, "stop")

    def resume(self, directory: str) -> None:
        self._ask(directory, "cont")

    def snapshot(self, directory: str, folder: str) -> None:
        """Raw disks hold no memory, and a migration to a file needs the whole machine frozen alike: not offered."""
        raise _cannot()

    def load(self, machine: Machine, folder: str) -> None:
        raise _cannot()

    def _ask(self, directory: str, what: str) -> None:
        try:
            with Qmp(qmp_socket(directory)) as qmp:
                qmp.execute(what)
        except QmpError as error:
            raise _silent(str(error)) from error


def _cannot() -> Refused:
    return Refused(
        "NQR-VMM-112", "QEMU's VMs cannot be snapshotted while they run.", "Stop it, take the snapshot, start it."
    )


def _silent(why: str) -> Failed:
    return Failed(
        "NQR-VMM-105", f"QEMU's monitor does not answer ({why}).", "Stop the VM with force, then start it.", status=502
    )
