"""The verbs of the agent. Blocking and idempotent; the caller runs one verb at a time for each VM.

The request is on disk before anything starts. The scope, never memory, decides whether a VM runs. A delete removes the disk
last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

from nqrust.agent import facts, survivors, untrusted
from nqrust.agent.disks import disks, volumes
from nqrust.agent.disks import writers as disk_writers
from nqrust.agent.errors import AgentError, Conflict, Refused, unknown_vm
from nqrust.agent.network import addresses
from nqrust.agent.scopes import launch
from nqrust.agent.scopes.port import Scope, console_log, exit_status
from nqrust.agent.store import VmRecord, check_generation, check_id
from nqrust.agent.vmm.port import RunState, Vmm
from nqrust.agent.vms import appearing, ends, holds, machines
from nqrust.agent.vms.making import Making
from nqrust.agent.vms.starting import Starter
from nqrust.agent.vms.status import CONTINUES
from nqrust.contract.agent import DISK_LOST, DISK_MISSING, Inventory, VmSpec, VmStatus
from nqrust.contract.credentials import hash_token
from nqrust.contract.paths import GUEST_AGENT_CONF
from nqrust.contract.vms import NetworkConfig, StopRequest
from nqrust.host.errors import HostError
from nqrust.host.secret import Secret

_ASKED_AT_ONCE = 64
"""VMs that an inventory asks: 256 VMMs that do not answer keep no other VM of the host from the manager."""


class VmService(Starter):
    # --- reading
    def status(self, vm_id: str) -> VmStatus:
        """Raises NotFound."""
        check_id(vm_id)
        record = self.store.read(vm_id)
        tap = record is not None and self.taps.get(record.tap) is not None
        found = self.observer.status(vm_id, self.scopes.seen(vm_id) or self.scopes.get(vm_id), tap=tap)
        if found is None:
            raise unknown_vm(vm_id)
        return found

    def inventory(self, host_id: str | None) -> Inventory:
        scopes = self.scopes.all()
        taps = self.taps.all()
        owners = {tap.vm_id for tap in taps}
        ids = sorted({*scopes, *self.store.ids()})
        # In parallel: a hanging VMM delays only its own answer. The manager waits 10 seconds for all, and a monitor gets two.
        with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE, thread_name_prefix="inventory") as pool:
            found = list(pool.map(lambda vm: self.observer.status(vm, scopes.get(vm), tap=vm in owners), ids))
        return Inventory(
            host_id=host_id,
            boot_id=facts.boot_id(self.host, self.settings.state_dir),
            time=datetime.now(timezone.utc),
            vms=[status for status in found if status is not None],
            taps=taps,
            volumes=volumes.kept(self.host, self.settings.volumes_dir),
        )

    # --- verbs
    def put(self, spec: VmSpec) -> VmStatus:
        """Create or update the VM from `spec`; with `run`, start it. A running VM is not restarted."""
        check_id(spec.id)
        addresses.check(spec, self.settings.network)
        identity = self._identity(spec)
        before = self.store.read(spec.id)
        if before is not None:
            check_generation(before, spec.generation)
        self.forwards.check(spec, before)
        self.store.check_address(spec)
        record = VmRecord.of(spec, before)
        if before is not None and (spec.made or self.host.exists(self.store.disk(spec.id))):
            driver = self.drivers[self.verdict().vmm]
            record.image = machines.image_of_disk(self.blobs, driver, spec.image, before.image)
        scope = self._settled(spec.id)
        if scope is not None:
            volumes.check_still(self.host, self.store, record, before, spec.detached)
            self.store.prepare(spec.id)
            self._limit(record, before)
            record.asked = "run" if spec.run else record.asked
            self.store.write(record)
            self.forwards.sync()
            if spec.run:
                self._resume_if_paused(record)
            return self.status(spec.id)
        with self._disk_of(spec, record, identity) as making:
            if spec.run:
                self._start(record, making=making)
        return self.status(spec.id)

    def stop(self, vm_id: str, request: StopRequest, generation: int | None = None) -> VmStatus:
        """Stop the VM: ask the guest first (unless `force`), then end it. Its disk and its reservation stay.

        `generation`: of the manager's row. This and later verbs raise Conflict if this host knows a newer one.
        """
        self.status(vm_id)
        self.store.told(vm_id, generation)
        record = self.store.read(vm_id)
        if record is not None and record.asked != "stop":
            record.asked = "stop"
            self.store.write_if_room(record)
        self._end(vm_id, record, 0 if request.force else request.timeout_seconds)
        if record is not None:
            self.taps.remove(record.tap, owner=vm_id)
        self.forwards.sync()
        return self.status(vm_id)

    def pause(self, vm_id: str, generation: int | None = None) -> VmStatus:
        directory, driver = self.running(vm_id)
        self.store.told(vm_id, generation)
        holds.melt(self.host, directory)
        if driver.state(directory) is not RunState.paused:
            driver.pause(directory)
            if driver.state(directory) is RunState.no_room:
                holds.hold(self.host, directory)
        return self.status(vm_id)

    def resume(self, vm_id: str, generation: int | None = None) -> VmStatus:
        _, driver = self.running(vm_id)
        self.store.told(vm_id, generation)
        self._resume(self.store.read(vm_id), driver)
        return self.status(vm_id)

    def delete(self, vm_id: str) -> None:
        """Delete scope, TAP, reservation, lease and, last, the folder with the disk. A missing VM is not an error."""
        check_id(vm_id)
        record = self.store.read(vm_id)
        if record is not None and record.asked != "stop":
            record.asked = "stop"  # a crash in between must not look like a VM that died
            self.store.write_if_room(record)
        self._end(vm_id, record, 0)  # nothing of it is left when its user's number is free
        self.scopes.tidy()
        for tap in self.taps.all():
            if tap.vm_id == vm_id or (record is not None and tap.name == record.tap):
                self.taps.remove(tap.name, owner=vm_id)
        self.dhcp.release(vm_id, record.mac if record else None)
        self.guests.forget(vm_id)
        volumes.keep(self.host, self.store, self.settings.volumes_dir, vm_id, record)
        self.host.remove_tree(self.store.directory(vm_id))
        if record is not None and record.user and not self.store.shares_user(vm_id, record.user):
            self.host.remove_tree(launch.screen_dir(self.settings, record.user))
        self.forwards.sync()
        if record is not None:
            self._end_connections(record)
        self.blobs.forget()

    def delete_tap(self, name: str) -> None:
        """Delete an orphan TAP. Raises Conflict while a VM holds it."""
        if not any(tap.name == name for tap in self.taps.all()):
            if self.taps.get(name) is not None:
                raise Conflict("NQR-API-709", f"The TAP {name} does not belong to nqr.", "Remove it with `ip link delete`.")
            return
        owner = next((tap.vm_id for tap in self.taps.all() if tap.name == name), None)
        if self.taps.in_use(name) or (owner is not None and self.scopes.get(owner) is not None):
            raise Conflict("NQR-API-708", f"A VM holds the TAP {name}.", "Stop the VM first.")
        self.taps.remove(name)

    def console_log(self, vm_id: str, tail: int = disks.MIB) -> bytes:
        """Return the last `tail` bytes of it."""
        self.status(vm_id)
        return self.observer.log_tail(vm_id, tail)

    # --- how
    def relay_url(self) -> str:
        """Return the URL that guests report to, or "" while the bridge has no address."""
        network = self.settings.network
        address = network.gateway or facts.bridge_address(network.bridge)
        return f"http://{address}:{network.relay_port}" if address else ""

    def _identity(self, spec: VmSpec) -> disks.Identity:
        # The init of a guest with a process configures the network, not what the image may have for it.
        mac = spec.mac if spec.network_config is NetworkConfig.dhcp and spec.process is None else ""
        token = Secret(spec.guest_token)
        keys, users, data = tuple(spec.ssh_keys), tuple(spec.users), Secret(spec.user_data)
        return disks.Identity(spec.id, spec.name, self.relay_url(), token, keys, users, mac, data, spec.process)

    def _settled(self, vm_id: str) -> Scope | None:
        """Return the scope if its VMM runs a guest, or None after clearing the rest.

        A launch in progress (by an agent that was killed) is awaited. Other remains are ended.
        """
        if self.scopes.vacant(vm_id):
            return None
        deadline = time.monotonic() + appearing.LONGEST
        while (scope := self.scopes.get(vm_id)) is not None:
            if scope.vmm:
                record = self.store.read(vm_id)
                driver = self.drivers.get(record.vmm) if record else None
                if driver is None or driver.state(self.store.directory(vm_id)) is not RunState.unconfigured:
                    return scope
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if scope is not None:
            self._kill(vm_id)
        return None

    @contextlib.contextmanager
    def _disk_of(self, spec: VmSpec, record: VmRecord, identity: disks.Identity) -> Iterator[Making | None]:
        """Make or rewrite the VM's disk. Yield a new disk that is to be made while the VM starts.

        Nothing makes a lost disk again. Without a start, the VM's volumes can still leave it."""
        disk, writer = self.store.disk(spec.id), disk_writers.writer(record.image.rootfs_type, self.settings.helper)
        absent = not self.host.exists(disk)
        new, lost = absent and not spec.made, absent and spec.made
        if lost and (spec.run or self.store.read(spec.id) is None):
            raise Refused(
                DISK_MISSING,
                f"The disk of VM {spec.name} is not on this host: {disk}.",
                f"Mount the file system of {self.settings.run_dir}: the VM then starts. {DISK_LOST}",
            )
        with self._claiming:
            self.store.claim_user(record)
        self.end_survivors(spec.id)
        attached = [volume.device for volume in record.volumes] if new else spec.attached
        volumes.settle(self.host, self.store, self.settings.volumes_dir, record, attached, spec.detached)
        self.host.remove(exit_status(self.store.directory(spec.id)))
        if lost:
            yield None
            return
        if not identity.manager_url:  # the bridge has no address yet: its former one is likely to come back
            identity = replace(identity, manager_url=record.relay_url)
        if new:
            with self._new_disk(spec, record, identity, writer) as making:
                yield making
            return
        again = identity.beside(record.injected, record.written)
        if not identity.manager_url and record.injected and record.token_sha256 == hash_token(spec.guest_token):
            # Before 0.3.0, no record had the address. The disk has it, and the token.
            again = replace(again, unchanged=again.unchanged | {GUEST_AGENT_CONF})
        self._write_again(record, again, writer)
        self._written(record, identity)
        yield None

    def _write_again(self, record: VmRecord, identity: disks.Identity, writer: disks.Writer) -> None:
        """Write what changed into the VM's disk. A disk with nothing to write is not touched."""
        disk, digests = self.store.disk(record.id), identity.digests
        if identity.unchanged == digests.keys():
            return
        self._own(record, disk)
        writer.ready(self.host, disk, cut_off=not record.injected)
        record.injected, record.written = "", {part: digests[part] for part in identity.unchanged}  # until all is written
        self.store.write(record)
        told = writer.again(self.host, disk, identity)
        record.network_written = told if identity.nic else record.network_written

    @contextlib.contextmanager
    def _new_disk(
        self, spec: VmSpec, record: VmRecord, identity: disks.Identity, writer: disks.Writer
    ) -> Iterator[Making | None]:
        for boot_file in spec.image.boot_files:  # a later version of the image replaces them
            self.blobs.cached(spec.image.name, boot_file)
        blob, disk = spec.image.rootfs, self.store.disk(spec.id)
        beside = spec.run and writer is disks.EXT4 and self.drivers[self.verdict().vmm].capabilities.reads_disks_last
        with self._borrowed_user() if beside else contextlib.nullcontext(record.user) as maker:
            with self.blobs.readable(spec.image.name, blob) as image:
                staged = disks.stage(
                    self.host,
                    image=image.path,
                    disk=disk,
                    user=record.user,
                    maker=maker,
                    size_mib=spec.disk_mib,
                    writer=writer,
                    seen=image.seen,
                )
            making = Making(self.host, staged, identity)
            try:
                if not beside:
                    making.write()
                    self._place(record, making)
                yield making if beside else None
            finally:
                making.drop()

    @contextlib.contextmanager
    def _borrowed_user(self) -> Iterator[int]:
        """Yield a user of no VM, whose processes are ended afterwards."""
        with self._claiming:
            user = self.store.free_user()
            self.store.borrowed.add(user)
        try:
            yield user
        finally:
            survivors.end(self.host, user)
            self.store.borrowed.discard(user)

    def go_on(self, record: VmRecord, snapshot: str) -> None:
        """Resume the VM from the memory in the folder `snapshot`."""
        directory = self.store.directory(record.id)
        self.host.remove(exit_status(directory))
        with contextlib.suppress(HostError):  # it has no log yet
            untrusted.append(console_log(directory), b"\n" + CONTINUES + b"\n", record.user)
        self._start(record, snapshot)

    def went_on(self, record: VmRecord) -> bool:
        """Return whether the guest of an interrupted `go_on` runs. If it was not resumed, end its VMM. Raises Failed."""
        scope, driver = self._settled(record.id), self.drivers.get(record.vmm)
        if scope is None or driver is None:
            return False
        state = driver.state(self.store.directory(record.id))
        if state is RunState.paused:  # loaded, not resumed
            self._kill(record.id)
        return state in (RunState.running, RunState.no_room)

    def running(self, vm_id: str) -> tuple[str, Vmm]:
        """Return folder and driver of a running VM. Raises Conflict if it is not running."""
        self.status(vm_id)
        record = self.store.read(vm_id)
        scope = self.scopes.seen(vm_id) or self.scopes.get(vm_id)
        if record is None or scope is None or not scope.vmm or record.vmm not in self.drivers:
            raise Conflict("NQR-VMM-104", f"VM {record.name if record else vm_id} does not run.", "Start the VM first.")
        return self.store.directory(vm_id), self.drivers[record.vmm]

    def _limit(self, record: VmRecord, before: VmRecord | None) -> None:
        """Change the limits of a running VM. The TAP comes first: a host may not support its limits."""
        if before is None or before.rate_limits == record.rate_limits:
            return
        directory, driver = self.running(record.id)
        if not driver.capabilities.network_limits:
            self.taps.limit(record.tap, record.id, record.rate_limits)
        driver.limit(directory, volumes.drives(record), record.rate_limits)

    def _resume_if_paused(self, record: VmRecord) -> None:
        driver = self.drivers.get(record.vmm)
        if driver is not None:
            self._resume(record, driver)

    def _resume(self, record: VmRecord | None, driver: Vmm) -> None:
        if record is None:
            return
        self.reconnect(record.id)
        holds.resume(self.host, driver, self.store.directory(record.id))

    def stranded(self) -> list[str]:
        """Return the VMs that run without their TAP on the bridge: an agent that is killed while it starts a VM leaves it in the
        VM's network namespace, or down."""
        apart = [record for record in self.store.all() if not self.taps.connected(record.tap, record.id)]
        scopes = self.scopes.all() if apart else {}
        return [record.id for record in apart if self._stranded(record, scopes.get(record.id)) is not None]

    def reconnect(self, vm_id: str) -> bool:
        """Connect a stranded VM. Return whether it was one. Raises Failed, HostError."""
        record = self.store.read(vm_id)
        if record is None or self.taps.connected(record.tap, vm_id):
            return False
        pid = self._stranded(record, self.scopes.get(vm_id))
        if pid is None:
            return False
        self._admit(record)
        self._connect(record, self.drivers[record.vmm], pid)
        return True

    def _stranded(self, record: VmRecord, scope: Scope | None) -> int | None:
        """Return the process of the VMM if a TAP of the VM, which is not connected, is there. proc_pid_net(5)"""
        if scope is None or not scope.vmm or record.vmm not in self.drivers:
            return None
        pid = scope.vmm[0].pid
        return pid if self.taps.get(record.tap) is not None or self._has_link(pid, record.tap) else None

    def _has_link(self, pid: int, name: str) -> bool:
        try:
            links = self.host.read_text(f"/proc/{pid}/net/dev")
        except HostError:  # it has ended
            return False
        return any(line.strip().startswith(f"{name}:") for line in links.splitlines())

    def _end(self, vm_id: str, record: VmRecord | None, grace: float) -> None:
        """End all processes of the VM. `grace`: seconds for the guest to power off."""
        if grace <= 0 or not self.power_off(vm_id, record, grace):
            self._kill(vm_id)
        self.end_survivors(vm_id)

    def power_off(self, vm_id: str, record: VmRecord | None, seconds: float) -> bool:
        """Ask the guest to power off. Return whether its VMM is gone within `seconds`."""
        driver = self.drivers.get(record.vmm) if record else None
        if driver is None or self.scopes.get(vm_id) is None:
            return False
        directory = self.store.directory(vm_id)
        try:
            holds.resume(self.host, driver, directory)
            driver.shut_down(directory)
        except AgentError:
            return False  # it cannot be asked
        return ends.gone(self.host, self.scopes, vm_id, seconds)
