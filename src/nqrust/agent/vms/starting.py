"""Starts VMs: what must be ready before a VMM, the VMM itself, and what must be there before its guest begins."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nqrust.agent import facts, untrusted
from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.disks.disks import Identity
from nqrust.agent.errors import AgentError
from nqrust.agent.network.dhcp import Dhcp
from nqrust.agent.network.forwards import Forwards
from nqrust.agent.network.taps import Taps
from nqrust.agent.scopes import launch, limits
from nqrust.agent.scopes.port import Launch, Scopes, exit_status
from nqrust.agent.settings import Settings
from nqrust.agent.store import Store, VmRecord
from nqrust.agent.vmm import verdict
from nqrust.agent.vmm.port import Machine, Vmm
from nqrust.agent.vms import appearing, ends, holds, machines
from nqrust.agent.vms.aside import aside
from nqrust.agent.vms.guests import GuestBook
from nqrust.agent.vms.making import Making
from nqrust.agent.vms.status import Observer
from nqrust.contract.credentials import hash_token
from nqrust.host.errors import HostError
from nqrust.host.port import Connections, Host

_ENDS = 10.0  # seconds until processes are gone after SIGKILL


@dataclass(frozen=True)
class Parts:
    """The parts of a service. Tests replace them."""

    host: Host
    settings: Settings
    store: Store
    scopes: Scopes
    taps: Taps
    dhcp: Dhcp
    blobs: Blobs
    guests: GuestBook
    drivers: dict[str, Vmm]
    forwards: Forwards


class Starter:
    """The parts of a service, and how they start a VM."""

    def __init__(self, parts: Parts) -> None:
        self.host, self.settings, self.store, self.scopes = parts.host, parts.settings, parts.store, parts.scopes
        self.taps, self.dhcp, self.blobs, self.guests = parts.taps, parts.dhcp, parts.blobs, parts.guests
        self.drivers, self.forwards = parts.drivers, parts.forwards
        self._claiming = threading.Lock()
        self.observer = Observer(parts.host, parts.store, parts.guests, parts.drivers, parts.settings.name)

    def verdict(self) -> verdict.Verdict:
        return verdict.read(self.host, self.settings.verdict_file, self.settings.vmm)

    def _start(self, record: VmRecord, snapshot: str | None = None, making: Making | None = None) -> None:
        """Boot the VM, or resume it from the folder `snapshot`. `making`: its new disk, to be made meanwhile."""
        self.observer.starting.add(record.id)
        try:
            self._launch(record, snapshot, making)
        finally:
            self.observer.starting.discard(record.id)

    def _launch(self, record: VmRecord, snapshot: str | None, making: Making | None) -> None:
        decided = self.verdict()
        driver = self.drivers[decided.vmm]
        machine = machines.of(self.host, self.store, self.blobs, record, driver, decided.accel, snapshot)
        machine = replace(machine, disk=making.path, disk_moves=True) if making else machine
        argv = driver.argv(machine)
        record.asked, record.vmm, record.accel = "run", decided.vmm, decided.accel
        self.store.write(record)
        with self._disk(record, machine, making) as ready:
            self._run(record, machine, driver, argv, ready)

    def _run(
        self, record: VmRecord, machine: Machine, driver: Vmm, argv: tuple[str, ...], disk_ready: Callable[[], None]
    ) -> None:
        """`disk_ready` waits until the VM has its disk."""
        if record.ip:
            self.dhcp.reserve(record.id, record.mac, record.ip, record.name)
        self.end_survivors(record.id)
        self.taps.make_way(record.tap, record.id)
        self._own(record, *machine.volumes)
        launch.prepare_vm(self.host, self.settings, record.user, machine.directory)
        holds.release(self.host, machine.directory)
        driver.prepare(machine)
        self.guests.forget(record.id)  # reports of the last boot do not apply to this one
        try:
            allowed = limits.of_vm(
                vcpus=record.vcpus, memory_mib=record.memory_mib, vmm=record.vmm, accel=record.accel, cpus=facts.cpus()
            )
            view = driver.mounts(machine)
            largest, name = machines.largest_file(self.host, machine, record.disk_mib), f"VM {record.name}"
            wanted = Launch(record.id, name, argv, machine.directory, record.user, allowed, largest, view, record.tap)
            self.scopes.spawn(wanted)
            # Its address may have been another VM's: its guest gets nothing of that one's connections.
            with aside(lambda: self._admit(record)) as admitted, aside(lambda: self._end_connections(record)) as ended:
                pid = self._appeared(record, driver)
                driver.configure(machine) if machine.snapshot is None else driver.load(machine, machine.snapshot)
                admitted()
                ended()
            with aside(lambda: self._connect(record, driver, pid)) as connected:
                disk_ready()
                if machine.snapshot is not None or self._limits_tap(record, driver):
                    connected()  # a guest that continues may have connections; none runs without its limits
                driver.begin(machine)
                connected()
        except Exception:  # an error that nobody foresaw must leave no VMM either
            self._kill(record.id)
            record.asked = "stop"
            self.store.write_if_room(record)
            self.taps.remove(record.tap, owner=record.id)
            with contextlib.suppress(AgentError, HostError):  # the upkeep does it again
                self._admit(record)
            raise

    def _connect(self, record: VmRecord, driver: Vmm, pid: int) -> None:
        """Take the TAP of a VM whose VMM is process `pid`. A VM that has ended meanwhile needs none. Raises Failed, HostError."""
        try:
            self.taps.take(record.tap, record.id, pid)
            if self._limits_tap(record, driver):
                self.taps.limit(record.tap, record.id, record.rate_limits)
        except (AgentError, HostError):
            if not self.host.exists(exit_status(self.store.directory(record.id))):
                raise

    def _limits_tap(self, record: VmRecord, driver: Vmm) -> bool:
        return record.rate_limits.limits_network and not driver.capabilities.network_limits

    @contextlib.contextmanager
    def _disk(self, record: VmRecord, machine: Machine, making: Making | None) -> Iterator[Callable[[], None]]:
        """Yield a function that waits until the disk is the VM's. Raises Failed, HostError."""
        if making is None:
            self._own(record, machine.disk)
            yield lambda: None
            return
        with aside(making.write, stop=making.end) as written:  # nobody waits for a disk whose VM does not start

            def ready() -> None:
                written()
                self._place(record, making)

            yield ready

    def _place(self, record: VmRecord, making: Making) -> None:
        """Give a new disk to its VM, and write that down."""
        making.place(record.id)
        record.network_written = making.network_written
        self._written(record, making.identity)

    def _written(self, record: VmRecord, identity: Identity) -> None:
        """Write down what is in the VM's disk."""
        record.injected, record.written, record.relay_url = identity.digest, identity.digests, identity.manager_url
        record.token_sha256 = hash_token(identity.token.reveal())
        self.store.write(record)

    def _admit(self, record: VmRecord) -> None:
        """Filter and forward what concerns the VM, as its record on disk says. Neither needs its TAP."""
        self.taps.admit()
        if record.forwards:
            self.forwards.sync()

    def _end_connections(self, record: VmRecord) -> None:
        """End what the host remembers of the address of a VM, while its guest sends nothing."""
        if record.ip:
            self.forwards.connections.end(Connections(record.ip))

    def _own(self, record: VmRecord, *disks: str) -> None:
        """The VM's user, and nobody else, may open these disks."""
        for disk in disks:
            untrusted.hand_over(self.host, disk, record.user)

    def _appeared(self, record: VmRecord, driver: Vmm) -> int:
        """Wait for the VMM and return its process. Raises Failed."""
        directory = self.store.directory(record.id)
        return appearing.wait(self.host, self.scopes, record, driver, directory, self.observer.last_line)

    def _kill(self, vm_id: str) -> None:
        self.scopes.kill(vm_id, signal.SIGKILL)
        self.end_survivors(vm_id)  # whatever left the scope, or came after it was read
        if not ends.gone(self.host, self.scopes, vm_id, _ENDS):
            raise ends.unending(vm_id)

    def end_survivors(self, vm_id: str) -> None:
        """End what runs as the VM's user. Call it while the VM does not run. Raises Failed."""
        ends.end_survivors(self.host, self.store, vm_id)
