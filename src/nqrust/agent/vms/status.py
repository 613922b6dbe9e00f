"""The state of a VM, from its scope, its files and its VMM. Pure, except for reading how it ended."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from nqrust.agent import untrusted
from nqrust.agent.scopes import limits
from nqrust.agent.scopes.port import Scope, console_log, exit_status
from nqrust.agent.store import Store, VmRecord
from nqrust.agent.vmm.port import RunState, Vmm
from nqrust.agent.vms import holds
from nqrust.agent.vms.guests import GuestBook
from nqrust.contract.agent import REBOOTED, VmStatus
from nqrust.contract.images import CONTAINER_RUNTIME, TINY
from nqrust.contract.names import scope_name
from nqrust.contract.text import plain
from nqrust.host.errors import HostError
from nqrust.host.port import Host

CONTINUES = b"nqr: the VM continues from a snapshot"
"""A line of the agent in the console log. The lines before it are of another run of the VM."""
_PROCESS = re.compile(rb"(?:nqr-init: (?:started|ended with code (\d{1,3}))|" + CONTINUES + rb")[ \r\n]")
"""Lines of the init that runs the process of a container, see guest-agent/src/init.rs."""
_PANIC = re.compile(rb"Kernel panic - not syncing: ([^\r\n]{1,120})")
_LAST_WORD = re.compile(rb"reboot: (Restarting system|Power down|System halted)")
"""Of a Linux kernel: kernel/reboot.c."""
_LAUNCHER = 2.0  # seconds that a launcher gets to write how its VMM ended
_TAIL = 4096  # bytes at the end of the console log in which a panic is looked for


class Observer:
    def __init__(self, host: Host, store: Store, guests: GuestBook, drivers: dict[str, Vmm], host_name: str) -> None:
        self._host_name = host_name
        self._host, self._store, self._guests, self._drivers = host, store, guests, drivers
        self.starting: set[str] = set()
        """VMs whose VMM is about to appear: asked to run, not yet running, not dead."""

    def status(self, vm_id: str, scope: Scope | None, *, tap: bool) -> VmStatus | None:
        """Return the VM's status, or None if it has neither folder nor scope. `tap`: whether the VM's TAP exists."""
        record = self._store.read(vm_id)
        folder = self._host.exists(self._store.directory(vm_id))
        if scope is None and not folder:
            return None
        found = VmStatus(id=vm_id, state="stopped", scope=scope_name(vm_id), disk=self._host.exists(self._store.disk(vm_id)))
        if record is not None:
            found.name, found.generation, found.mac, found.ip = record.name, record.generation, record.mac, record.ip
            found.vmm, found.accel, found.forwards = record.vmm, record.accel, record.forwards
            found.tap = record.tap if tap else None
            found.network_written = record.network_written
            found.tags = record.tags
            found.image, found.vcpus, found.memory_mib = record.image.name, record.vcpus, record.memory_mib
        if scope is not None and scope.vmm:
            self._running(found, scope)
        elif record is not None and record.asked == "run" and vm_id not in self.starting and self._ended(vm_id, scope):
            found.state, found.exit_reason = self.ending(vm_id)
            found.rebooted = found.state == "stopped" and self._rebooted(record)
            found.exit_reason = REBOOTED if found.rebooted else found.exit_reason
        if record is not None and record.process is not None and not (scope is not None and scope.vmm):
            found.exit_code = self.exit_code(vm_id)
        return found

    def _running(self, found: VmStatus, scope: Scope) -> None:
        found.pids = [process.pid for process in scope.vmm]
        found.limits = limits.in_force(self._host, found.pids[0])
        started = scope.vmm[0].started_at
        found.started_at = datetime.fromtimestamp(started, timezone.utc)
        driver = self._drivers.get(found.vmm)
        state = driver.state(self._store.directory(found.id)) if driver else RunState.silent
        found.state = "paused" if state in (RunState.paused, RunState.no_room) else "running"
        if state is RunState.no_room and not holds.held(self._host, self._store.directory(found.id)):
            found.exit_reason = f"The disk of host {self._host_name} is full. The VM continues when there is room."
        if state is RunState.unconfigured and found.id not in self.starting:
            found.state, found.exit_reason = "failed", "The VMM started, but the agent did not boot the guest."
        note = self._guests.note(found.id)
        # A report from before this start belongs to another boot. /proc counts in ticks, hence a second of tolerance.
        if note is not None and note.at.timestamp() >= started - 1:
            found.guest = note.report
            found.ip = found.ip or note.report.ip

    def _ended(self, vm_id: str, scope: Scope | None) -> bool:
        """Whether the VMM is gone. Its launcher, which is in the scope too, writes how it ended and puts the terminal away."""
        until = self._host.monotonic() + _LAUNCHER
        while scope is not None and not self._host.exists(exit_status(self._store.directory(vm_id))):
            if self._host.monotonic() > until:
                return False
            self._host.sleep(0.02)
        return True

    def ending(self, vm_id: str) -> tuple[str, str]:
        """Return state and reason of a VM that ended although it was asked to run.

        `stopped`: the guest powered off or rebooted. `failed`: a panic, a VMM that failed or was killed, or a host that went
        down.
        """
        directory = self._store.directory(vm_id)
        try:
            code = int(self._host.read_text(exit_status(directory)).strip())
        except (HostError, ValueError):
            return "failed", "The VMM ended without an exit status: a kill or a host shutdown ended it."
        record = self._store.read(vm_id)
        driver = self._drivers.get(record.vmm) if record else None
        code = driver.exit_signals.get(code, code) if driver else code
        if code > 128:
            return "failed", f"The VMM ended after signal {code - 128}."
        panic = _PANIC.search(self.log_tail(vm_id, _TAIL))
        if panic:
            return "failed", f"The guest's kernel panicked: {plain(panic[1].decode(errors='replace'))}"
        if code:
            return "failed", f"The VMM exited with {code}: {self.last_line(vm_id)}"
        ended = self.exit_code(vm_id) if record and record.process else None
        if ended:
            return "failed", f"Its process ended with exit code {ended}."
        return "stopped", "The guest powered off or rebooted." if ended is None else "Its process ended with exit code 0."

    def _rebooted(self, record: VmRecord) -> bool:
        """Return whether the guest of a VM that ended well rebooted. Its VMM ends then."""
        driver = self._drivers.get(record.vmm)
        own = record.process is not None or record.image.name in (TINY, CONTAINER_RUNTIME)
        if driver is None or (own and driver.capabilities.off_by_reset):
            return False
        said = _LAST_WORD.findall(self.log_tail(record.id, _TAIL))
        return bool(said) and said[-1] == b"Restarting system" and self.exit_code(record.id) is None

    def exit_code(self, vm_id: str) -> int | None:
        """Return the exit code that the init of a guest told on the console, or None if it told none since it started."""
        told = _PROCESS.findall(self.log_tail(vm_id, _TAIL))
        return int(told[-1]) if told and told[-1] and int(told[-1]) < 256 else None

    def log_tail(self, vm_id: str, size: int) -> bytes:
        """Return the last `size` bytes of the console log, or "" if there is none."""
        path = console_log(self._store.directory(vm_id))
        try:
            return untrusted.tail(path, size)
        except HostError:
            return b""

    def last_line(self, vm_id: str) -> str:
        lines = [line.strip() for line in self.log_tail(vm_id, _TAIL).decode(errors="replace").splitlines()]
        return plain(next((line for line in reversed(lines) if line), "it said nothing"))
