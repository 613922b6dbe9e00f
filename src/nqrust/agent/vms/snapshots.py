"""Snapshots: copies of a VM's disks in its own folder, and of its memory if the VMM supports it.

    snapshots/<name>/snapshot.json    Meta; the folder appears atomically
    snapshots/<name>/disk.ext4, vdb.raw ...   reflinks if the file system supports them
    snapshots/<name>/vmstate, memory          of a VM that ran

A restore copies all disks, then replaces each atomically. An interrupted one is repeated. Snapshots are deleted with their VM.
A name followed by .new is one in work or one that goes, by .old one that is being replaced.
"""

from __future__ import annotations

import errno
import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import Literal

from pydantic import BaseModel, ValidationError

from nqrust.agent import untrusted
from nqrust.agent.disks.disks import MIB
from nqrust.agent.disks.reserve import require, reserve
from nqrust.agent.errors import Conflict, Failed, NotFound, Refused
from nqrust.agent.store import VmRecord, check_id
from nqrust.agent.vmm.port import RunState, largest_saved
from nqrust.agent.vms import holds
from nqrust.agent.vms.service import VmService
from nqrust.contract.agent import VmStatus
from nqrust.contract.vms import SNAPSHOT_PATTERN, SnapshotFound
from nqrust.host.errors import HostError, PathError, PathMissing


class Meta(BaseModel):
    """`injected`, `written`, `token_sha256`: the disk's injected content at that time, and the token of the guest in it.

    `request`: the identity of the request that it was taken for. "": its manager sent none."""

    name: str
    kind: Literal["disk", "full"]
    size: int
    created_at: datetime
    injected: str
    written: dict[str, str] = {}
    token_sha256: str = ""
    vmm: str = ""
    accel: str = ""
    request: str = ""

    def found(self) -> SnapshotFound:
        return SnapshotFound(**self.model_dump(include=set(SnapshotFound.model_fields)))


class Snapshots:
    def __init__(self, service: VmService) -> None:
        self._service, self._host, self._store = service, service.host, service.store

    def create(self, vm_id: str, name: str, request: str = "", generation: int | None = None) -> SnapshotFound:
        """Create a snapshot.

        Idempotent by `request`: the same one gives the snapshot that is there, another one takes a new one in its place. "" comes
        from an older manager and gives any of that name. `generation`, here and below: of the manager's row. Raises NotFound,
        Refused (the VMM cannot snapshot a running VM), Conflict (an older generation), Failed, HostError (no space).
        """
        self._store.told(vm_id, generation)
        record, folder = self._of(vm_id, name, needs_disk=True)
        parent, part, old = folder.rpartition("/")[0], f"{folder}.new", f"{folder}.old"
        if self._host.exists(old) and not self._host.exists(folder):  # a replacement was interrupted
            self._host.rename(old, folder)
        known = self._meta(folder)
        if known is not None and request in ("", known.request):
            self._host.remove_tree(old)
            return known.found()
        if self._host.stat(parent) is None:
            self._host.mkdir(parent, mode=0o700)
        self._host.remove_tree(part)
        self._host.mkdir(part, mode=0o700)
        try:
            kind: Literal["disk", "full"] = "disk"
            if self._service.scopes.get(vm_id) is not None:
                kind = "full"
                self._of_running(record, part)
            else:
                self._service.end_survivors(vm_id)
                self._copy(record, part)
            files = [self._host.stat(f"{part}/{file}") for file in self._host.listdir(part)]
            meta = Meta(
                name=name,
                kind=kind,
                size=sum(found.size for found in files if found),
                vmm=record.vmm,
                accel=record.accel,
                created_at=datetime.now(timezone.utc),
                injected=record.injected,
                written=record.written,
                token_sha256=record.token_sha256,
                request=request,
            )
            self._host.write_file(f"{part}/snapshot.json", meta.model_dump_json().encode(), mode=0o600)
            self._replace(folder, part, old)
        except BaseException:
            with suppress(HostError):
                for file in self._host.listdir(part):
                    untrusted.discard(f"{part}/{file}")
            self._host.remove_tree(part)
            raise
        self._host.remove_tree(old)
        return meta.found()

    def _replace(self, folder: str, part: str, old: str) -> None:
        """Put `part` in the place of `folder`, which becomes `old`. If that fails, `folder` is as before."""
        self._host.remove_tree(old)
        if self._host.exists(folder):
            self._host.rename(folder, old)
        try:
            self._host.rename(part, folder)
        except BaseException:
            if self._host.exists(old) and not self._host.exists(folder):
                self._host.rename(old, folder)
            raise

    def restore(self, vm_id: str, name: str, generation: int | None = None, request: str = "") -> VmStatus:
        """Restore the disks. With a full snapshot the VM resumes from there; otherwise it stays stopped.

        Idempotent by `request`: the VM's last restore is not repeated. "" comes from an older manager, and always restores.
        Raises NotFound, Refused (it runs), Conflict (an older generation), Failed.
        """
        self._store.told(vm_id, generation)
        record, folder = self._of(vm_id, name, needs_disk=False)  # the snapshot has one
        if self._restored(record, request):
            return self._service.status(vm_id)
        meta = self._meta(folder)
        if meta is None:
            raise NotFound("NQR-VMM-114", f"VM {record.name} has no snapshot {name} here.", "`nqr vm snapshot ls` lists them.")
        vacant = self._service.scopes.vacant(vm_id)
        if not vacant and self._service.scopes.get(vm_id) is not None:
            raise Refused("NQR-VMM-113", f"VM {record.name} runs; its disks cannot be replaced.", "Stop the VM first.")
        now = self._service.verdict()
        if meta.kind == "full" and (now.vmm != meta.vmm or meta.accel not in ("", now.accel)):
            under = " on ".join(word for word in (meta.vmm, meta.accel) if word)
            raise Refused(
                "NQR-VMM-115",
                f"Snapshot {name} has the memory of a VM under {under}, which this host does not use now.",
                f"Run `nqr install --vmm {meta.vmm}` on the host, with the same acceleration.",
            )
        if not vacant:
            self._service.end_survivors(vm_id)
        self._put_back(record, folder, meta, request)
        if meta.kind == "full":
            self._service.go_on(record, folder)
            self._resumed(record)
        return self._service.status(vm_id)

    def _restored(self, record: VmRecord, request: str) -> bool:
        """Return whether the host has carried out this request. An agent that was killed may have left a guest that resumed."""
        if not request or request != record.restored:
            return False
        if record.resuming:
            if not self._service.went_on(record):
                return False
            self._resumed(record)
        return True

    def _resumed(self, record: VmRecord) -> None:
        record.resuming = False
        self._store.write_if_room(record)

    def _put_back(self, record: VmRecord, folder: str, meta: Meta, request: str) -> None:
        """Copy all disks before the first is replaced: they belong together, and a copy may not fit."""
        disks = list(self._disks(record))
        replaced: list[str] = []
        try:
            for path in disks:  # of a restore that was interrupted: they need their room
                self._host.remove(f"{path}.restored")
            for path in disks:
                saved = f"{folder}/{path.rpartition('/')[2]}"
                self._host.copy_file(saved, f"{path}.restored", mode=0o600, keep_free=self._reserve(record.id))
            for path in disks:
                self._host.rename(f"{path}.restored", path)
                replaced.append(path)
            record.injected, record.written = meta.injected, meta.written
            record.token_sha256 = meta.token_sha256 or record.token_sha256
            record.restored, record.resuming = request, meta.kind == "full"
            self._store.write(record)
        except HostError as error:
            if not replaced:
                raise
            raise Failed(
                "NQR-VMM-140",
                f"The restore of VM {record.name} ended halfway: {len(replaced)} of its {len(disks)} disks are those of "
                f"snapshot {meta.name}, the others are as before: {str(error).rstrip('.')}.",
                "Put right what the message names, then restore the snapshot again before you start the VM.",
            ) from error
        finally:
            for path in disks:
                with suppress(HostError):
                    self._host.remove(f"{path}.restored")

    def found(self, vm_id: str) -> list[SnapshotFound]:
        """Return the complete snapshots, by name."""
        try:
            names = sorted(self._host.listdir(f"{self._store.directory(vm_id)}/snapshots"))
        except PathMissing:
            return []
        metas = [self._meta(self._folder(vm_id, name)) for name in names if re.fullmatch(SNAPSHOT_PATTERN[1:-1], name)]
        return [meta.found() for meta in metas if meta is not None]

    def delete(self, vm_id: str, name: str, generation: int | None = None) -> None:
        """Delete the snapshot. A missing one is not an error. One whose deletion fails or is interrupted is complete or gone.

        Raises Conflict (an older generation), Refused, HostError.
        """
        folder = self._folder(vm_id, name)
        self._store.told(vm_id, generation)
        for rest in (f"{folder}.new", f"{folder}.old"):
            self._host.remove_tree(rest)
        if self._host.exists(folder):
            self._host.rename(folder, f"{folder}.new")
            self._host.remove_tree(f"{folder}.new")

    def _of_running(self, record: VmRecord, part: str) -> None:
        """Write memory and disks while the guest is frozen, so that they belong together."""
        directory, driver = self._service.running(record.id)
        if not driver.capabilities.snapshot:
            raise Refused(
                "NQR-VMM-112",
                f"VM {record.name} runs under {driver.name}, which cannot save a running VM.",
                "Stop the VM, take the snapshot, then start the VM.",
            )
        state = driver.state(directory)
        if state is RunState.no_room:
            raise Conflict(
                "NQR-VMM-120",
                f"VM {record.name} is paused because its host's disk is full.",
                "Free space on the host's disk, then take the snapshot.",
            )
        paused = state is RunState.paused and not holds.frozen(self._host, directory)  # by somebody
        if not paused:
            holds.freeze(self._host, driver, directory)
        try:
            limit = largest_saved(record.memory_mib)
            self._require_room(record)
            driver.snapshot(directory, part, record.user, limit)
            for name in self._host.listdir(part):
                # The VMM may still have it open.
                untrusted.settle(self._host, f"{part}/{name}", limit, self._reserve(record.id))
            self._copy(record, part)
        finally:
            if not paused:
                holds.thaw(self._host, driver, directory)

    def _copy(self, record: VmRecord, part: str) -> None:
        for path, mib in self._disks(record).items():
            largest = (mib + 1) * MIB  # an image may be a part of a MiB longer than its VM's disk
            try:
                copy = f"{part}/{path.rpartition('/')[2]}"
                self._host.copy_file(path, copy, mode=0o600, largest=largest, keep_free=self._reserve(record.id))
            except PathError as error:
                if error.errno != errno.EFBIG:
                    raise
                raise Failed(
                    "NQR-VMM-123",
                    f"{path} is longer than the {mib} MiB that VM {record.name} has there.",
                    "Copy the files that you need out of the VM, then create it again.",
                ) from error

    def _reserve(self, vm_id: str) -> int:
        """Return the bytes that copies leave free: on a full disk, the VMs of the host stop or lose what they write."""
        return reserve(self._host.disk_usage(self._store.directory(vm_id)))

    def _require_room(self, record: VmRecord) -> None:
        """Raise NoSpace if the memory of the VM does not fit. Its VMM writes it, and stops for nothing."""
        require(self._host, self._store.directory(record.id), record.memory_mib * MIB, "the memory")

    def _disks(self, record: VmRecord) -> dict[str, int]:
        """Path -> size in MiB. The VM's processes can give these files any length."""
        volumes = {self._store.volume(record.id, volume.device): volume.size_mib for volume in record.volumes}
        return {**volumes, self._store.disk(record.id): record.disk_mib}

    def _of(self, vm_id: str, name: str, *, needs_disk: bool) -> tuple[VmRecord, str]:
        check_id(vm_id)
        record = self._store.read(vm_id)
        if record is None:
            self._service.status(vm_id)  # tells a VM without a disk from none
        if record is None or (needs_disk and not self._host.exists(self._store.disk(vm_id))):
            raise NotFound(
                "NQR-API-702",
                f"VM {vm_id} has no disk on this host.",
                "Start the VM: its host makes its first disk, or says how you get a lost one back.",
            )
        return record, self._folder(vm_id, name)

    def _folder(self, vm_id: str, name: str) -> str:
        if not re.fullmatch(SNAPSHOT_PATTERN[1:-1], name):
            raise Refused("NQR-API-703", "That is not the name of a snapshot.", "Use lower-case letters, digits and dashes.")
        return f"{self._store.directory(vm_id)}/snapshots/{name}"

    def _meta(self, folder: str) -> Meta | None:
        try:
            return Meta.model_validate_json(self._host.read_bytes(f"{folder}/snapshot.json"))
        except (HostError, ValidationError):
            return None
