"""Files of each VM on its host, in `FC_RUN_DIR/vms/<id>/`: its disk, its record, its guest's report.

vm.json       VmRecord (0600), written before anything is started; all that a manager needs to adopt the VM, the guest's
              token only as its hash
vdb.raw ...   its volumes; kept ones move to FC_RUN_DIR/volumes when they are detached or the VM is deleted
vdb.gap ...   an empty drive in place of a detached volume, if there is a volume with a later letter
disk.ext4      the VM's own copy of the image, for every file system type; there only when complete
guest.json    the last report of the guest agent with news
console.log   output of the serial port; lock, exit-status, exit-status-0: see scopes/launch.py
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime, timezone

from pydantic import BaseModel, Field, ValidationError

from nqrust.agent import survivors, users
from nqrust.agent.errors import Conflict, Refused
from nqrust.contract.agent import ADDRESS_TAKEN, ImageRef, VmPlaced, VmSpec
from nqrust.contract.vms import GuestReport
from nqrust.host.errors import HostError, NoSpace, PathMissing
from nqrust.host.port import Host

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")


class VmRecord(VmPlaced):
    """The record of one VM on this host. `asked` is run or stop: if `asked` is run and the VM is gone, it died.

    `injected` is a digest of all that was written into the disk, empty while it is written, and `written` has one of each part.
    `relay_url`: where its guest agent was told to report to. `token_sha256` is the hash of the token in it, `network_written`
    a description of the written network configuration.
    """

    user: int = 0
    """Number of the user and group of the VM's processes and disks; 0 until it has one."""
    asked: str = "stop"
    vmm: str = ""
    accel: str = ""
    injected: str = ""
    written: dict[str, str] = Field(default={})
    relay_url: str = ""
    network_written: str = ""
    token_sha256: str = ""
    restored: str = ""
    """Identity of the last request for a restore whose disks are in place."""
    resuming: bool = False
    """Whether the guest of that restore was to resume, and nobody knows yet that it did."""
    created_at: datetime

    @staticmethod
    def of(spec: VmSpec, before: VmRecord | None) -> VmRecord:
        """Return `spec` in the stored form, with the facts of an earlier record."""
        own = set(VmRecord.model_fields) - set(VmPlaced.model_fields)
        known = before.model_dump(include=own) if before else {"created_at": datetime.now(timezone.utc)}
        return VmRecord(**spec.model_dump(include=set(VmPlaced.model_fields)), **known)


class GuestNote(BaseModel):
    report: GuestReport
    at: datetime


def check_id(vm_id: str) -> str:
    """Return `vm_id` if it is safe as part of a path, a unit's name and a command line."""
    if not _ID.fullmatch(vm_id):
        raise Refused("NQR-API-703", "This is not a VM id.", "Use the VM's id from the manager.")
    return vm_id


def check_generation(known: VmRecord, generation: int) -> None:
    """Raise Conflict if `generation` is older than the recorded one."""
    if generation < known.generation:
        newer = f"This host has generation {known.generation} of VM {known.name}, newer than {generation}."
        raise Conflict("NQR-API-705", newer, "Send the request again with the current generation.")


class Store:
    def __init__(self, host: Host, vms_dir: str) -> None:
        self._host, self.vms_dir = host, vms_dir
        self.borrowed: set[int] = set()
        """Users of no VM, for programs that run now."""

    def directory(self, vm_id: str) -> str:
        return f"{self.vms_dir}/{check_id(vm_id)}"

    def disk(self, vm_id: str) -> str:
        return f"{self.directory(vm_id)}/disk.ext4"

    def volume(self, vm_id: str, device: str) -> str:
        return f"{self.directory(vm_id)}/{device}.raw"

    def gap(self, vm_id: str, device: str) -> str:
        return f"{self.directory(vm_id)}/{device}.gap"

    def ids(self) -> list[str]:
        """Return VMs that have a folder here, readable or not."""
        try:
            names = self._host.listdir(self.vms_dir)
        except PathMissing:
            return []
        return [name for name in names if _ID.fullmatch(name)]

    def prepare(self, vm_id: str, user: int = 0) -> str:
        """Make the VM's folder unless it is there: root's, and `user` may pass through it to what it owns there."""
        path, group = self.directory(vm_id), str(user) if user else "root"
        found = self._host.stat(path)
        if found is None:
            self._host.mkdir(path, mode=0o710, group=group)
        elif user and found.gid != user:
            self._host.set_mode(path, mode=0o710, owner="root", group=group)
        return path

    def free_user(self) -> int:
        """Return a user that no other VM and no process of this host has."""
        folders = (self._host.stat(self.directory(vm_id)) for vm_id in self.ids())
        taken = {*(one.user for one in self.all()), *(found.gid for found in folders if found), *self.borrowed}
        return users.free(taken, self.vms_dir, survivors.absent)

    def shares_user(self, vm_id: str, user: int) -> bool:
        """Return whether another VM's folder names this user: a folder from a backup or another host brings its number."""
        folders = (self._host.stat(self.directory(other)) for other in self.ids() if other != vm_id)
        return any(found is not None and found.gid == user for found in folders)

    def claim_user(self, record: VmRecord) -> None:
        """Give the VM a user that no other VM and no process of this host has, and write that down. Not for two VMs at once."""
        if record.user and not self.shares_user(record.id, record.user):
            self.prepare(record.id, record.user)
            return
        folder, record.user = self._host.exists(self.directory(record.id)), self.free_user()
        self.prepare(record.id, record.user)
        # Of what is there: the volumes of `record` are not settled, and one that the old record names may not be lost.
        before = self.read(record.id)
        try:
            self.write(before.model_copy(update={"user": record.user}) if before else record)
        except HostError:
            if not folder:  # one without a record keeps files of images on the disk
                self._host.remove_tree(self.directory(record.id))
            raise

    def read(self, vm_id: str) -> VmRecord | None:
        """Return the record, or None if there is none, it is not readable, or it is another VM's (in a copy of its folder)."""
        try:
            record = VmRecord.model_validate_json(self._host.read_bytes(f"{self.directory(vm_id)}/vm.json"))
        except (HostError, ValidationError):
            return None
        return record if record.id == vm_id else None

    def all(self) -> list[VmRecord]:
        """Return every readable record."""
        return [record for vm_id in self.ids() if (record := self.read(vm_id)) is not None]

    def images(self) -> list[ImageRef] | None:
        """Return the images of all VMs, or None if a record cannot be read: a kernel that its image has no more comes from nowhere."""
        records = [self.read(vm_id) for vm_id in self.ids()]
        return None if None in records else [record.image for record in records if record is not None]

    def check_address(self, spec: VmSpec) -> None:
        """Raise Conflict if another VM has the address. A manager that lost that VM's record may assign it twice."""
        other = next((one for one in self.all() if spec.ip and one.ip == spec.ip and one.id != spec.id), None)
        if other is not None:
            what = f"VM {other.name} ({other.id}) of this host has the address {spec.ip}."
            raise Conflict(ADDRESS_TAKEN, what, "Adopt or delete that VM: `nqr vm ls --unknown`.")

    def told(self, vm_id: str, generation: int | None) -> None:
        """Store the `generation` of the manager's request. None: the request has none.

        Raises Conflict if this host knows a newer one: a manager with a restored database must not undo newer changes.
        """
        record = self.read(vm_id)
        if record is None or generation is None:
            return
        check_generation(record, generation)
        if generation > record.generation:
            record.generation = generation
            self.write_if_room(record)

    def write_if_room(self, record: VmRecord) -> None:
        """Write the record, unless the disk is full: nobody is kept from a stop or a delete, which makes room."""
        with contextlib.suppress(NoSpace):
            self.write(record)

    def write(self, record: VmRecord) -> None:
        self._host.write_file(f"{self.directory(record.id)}/vm.json", record.model_dump_json(indent=1).encode(), mode=0o600)

    def read_guest(self, vm_id: str) -> GuestNote | None:
        try:
            return GuestNote.model_validate_json(self._host.read_bytes(f"{self.directory(vm_id)}/guest.json"))
        except (HostError, ValidationError):
            return None

    def write_guest(self, vm_id: str, note: GuestNote) -> None:
        self._host.write_file(f"{self.directory(vm_id)}/guest.json", note.model_dump_json().encode(), mode=0o600)

    def remove_guest(self, vm_id: str) -> None:
        self._host.remove(f"{self.directory(vm_id)}/guest.json")
