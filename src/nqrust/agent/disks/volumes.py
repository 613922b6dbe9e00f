"""Volumes: disks beside a VM's own, empty or kept. They are created before the VM's disk, so a VM with a disk has them all.

A kept volume is one file, NAME.raw, in the folder of kept volumes. While attached, it exists only in the VM's own folder, so
no two VMs can have it. One rename(2) moves it and never replaces a file. The VM's record names a volume before it arrives and
until it leaves, so that deleting the VM never deletes a volume to be kept. A file that no record names is kept, too.

VMs and kept volumes may be on two file systems. Then a copy moves the volume, and the first file goes last. As long as both can
be there, the one in the folder of kept volumes has the mode 0400. A kill in between leaves two equal files, or one and a part of
a copy that the next attempt replaces.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterable, Sequence
from string import ascii_lowercase

from nqrust.agent import untrusted
from nqrust.agent.disks.reserve import require, reserve
from nqrust.agent.errors import Failed, Refused
from nqrust.agent.store import Store, VmRecord
from nqrust.contract.names import kept_volume_name
from nqrust.contract.vms import DEVICE_PATTERN, VOLUME_NAME_LENGTH, VOLUME_PATTERN, Volume
from nqrust.contract.volumes import KeptVolume
from nqrust.host.errors import PathError, PathMissing
from nqrust.host.port import Host, Kind, command

MIB = 1 << 20
_ENDING = ".raw"
_TWICE = 0o400
"""Mode of a file in the folder of kept volumes while the VM's folder may have the same one."""


def settle(
    host: Host, store: Store, folder: str, record: VmRecord, attached: Collection[str], detached: Sequence[Volume]
) -> None:
    """Write `record`, and bring the volumes of a stopped VM in line with it. Idempotent.

    `attached`: devices of volumes to create if missing, or to fetch from `folder`. Empty ones are sparse files. Others are
    fetched back only if they are there. `detached` move to `folder` or are deleted. Raises Refused if a kept volume is not on
    this host, Failed if a name in `folder` is taken.

    A manager whose database was restored may know nothing of a volume that the VM has: that one moves to `folder`, too.
    """
    both = {volume.device for volume in record.volumes} & {volume.device for volume in detached}
    if both:
        raise Refused(
            "NQR-API-703", f"Volume {min(both)} is in both lists: attach and detach.", "Attach it or detach it, not both."
        )
    if record.volumes:
        _make(host, folder)  # now: a full disk must not keep anybody from a delete
    _keep_others(host, store, folder, record, attached, detached)
    for volume in detached:
        if volume.data == "delete":
            host.remove(store.volume(record.id, volume.device))
            host.remove(_path(folder, _name(record, volume)))
        else:
            _keep(host, store.volume(record.id, volume.device), folder, _name(record, volume))
    store.write(record)
    for volume in record.volumes:
        _bring(host, store, folder, record, volume, make=volume.device in attached)


def check_still(host: Host, store: Store, record: VmRecord, before: VmRecord | None, detached: Sequence[Volume]) -> None:
    """Raise Refused if a running VM would gain or lose a volume."""
    had = _names(before, before.volumes) if before else {}
    leaves = any(host.exists(store.volume(record.id, volume.device)) for volume in detached)
    if leaves or had != _names(record, record.volumes):
        raise Refused("NQR-VMM-119", f"VM {record.name} runs; its volumes cannot change.", "Stop the VM first.")


def drives(record: VmRecord) -> int:
    """Return the number of drives beside the VM's own disk, including those that fill a gap."""
    return max((ord(volume.device[-1]) - ord("a") for volume in record.volumes), default=0)


def paths(host: Host, store: Store, record: VmRecord) -> tuple[str, ...]:
    """Return the paths in the guest's order, from vdb on.

    A guest's kernel numbers the disks that it finds. A letter without a volume gets a drive of size 0, so that later ones keep
    their names. Raises Failed if a volume is missing: an empty one in its place would look like lost data.
    """
    devices = {volume.device for volume in record.volumes}
    found = []
    for letter in ascii_lowercase[1 : 1 + drives(record)]:
        device = f"vd{letter}"
        path = store.volume(record.id, device) if device in devices else store.gap(record.id, device)
        if not host.exists(path):
            if device in devices:
                raise Failed(
                    "NQR-VMM-111", f"The volume {path} of VM {record.name} is gone.", "Restore the file, or detach the volume."
                )
            host.write_file(path, b"", mode=0o600)
        found.append(path)
    return tuple(found)


def keep(host: Host, store: Store, folder: str, vm_id: str, record: VmRecord | None) -> None:
    """Move volumes that outlive the VM to `folder`: all of them if its record cannot be read. Idempotent. Raises Failed if a name
    is taken."""
    if record is not None:
        for volume in record.volumes:
            if volume.keep:
                _keep(host, store.volume(vm_id, volume.device), folder, _name(record, volume))
    named = {volume.device for volume in record.volumes} if record else set()
    for device in _files(host, store, vm_id):
        if device not in named:
            _keep(host, store.volume(vm_id, device), folder, _lost(vm_id, device))


def kept(host: Host, folder: str) -> list[KeptVolume]:
    """List the volumes in `folder`, from any source. Files without a volume's name are skipped."""
    try:
        names = host.listdir(folder)
    except PathMissing:
        return []
    found = []
    for file in sorted(names):
        name, ending = file[: -len(_ENDING)], file[-len(_ENDING) :]
        status = host.stat(f"{folder}/{file}") if ending == _ENDING and _fits(name) else None
        if status is not None:
            found.append(KeptVolume(name=name, size_mib=-(-status.size // MIB)))
    return found


def remove(host: Host, folder: str, name: str) -> None:
    """Delete a kept volume and its data. A missing one is not an error. An attached volume is not in `folder`."""
    if not _fits(name):
        raise Refused("NQR-API-703", "That is not the name of a volume.", "Use a name that `nqr volume ls` lists.")
    host.remove(_path(folder, name))


def _bring(host: Host, store: Store, folder: str, record: VmRecord, volume: Volume, make: bool) -> None:
    path, source = store.volume(record.id, volume.device), _path(folder, _name(record, volume))
    if host.exists(path):
        if _twice(host, path, source):
            host.remove(source)
        return
    if host.exists(source):
        # Another VM's VMM may have had it, and what that one passed on would read and write the volume of this VM.
        untrusted.take_back(host, source, reserve(host.disk_usage(folder)))
        if not _renamed(host, source, path):
            host.set_mode(source, mode=_TWICE, owner="root", group="root")
            _copy(host, source, path, mode=0o600)
    elif make and volume.name is None:
        host.write_file(f"{path}.new", b"", mode=0o600)
        host.run(command("truncate", "-s", str(volume.size_mib * MIB), f"{path}.new"))
        host.rename(f"{path}.new", path)
    elif make:
        raise Refused(
            "NQR-VMM-117", f"There is no kept volume {volume.name} on this host.", "`nqr volume ls` lists the kept volumes."
        )


def _keep_others(
    host: Host, store: Store, folder: str, record: VmRecord, attached: Collection[str], detached: Sequence[Volume]
) -> None:
    """Move to `folder` what the VM has and the request does not mean."""
    before = store.read(record.id)
    had = _names(before, before.volumes) if before else {}
    meant = _names(record, (*record.volumes, *detached))
    for device in _files(host, store, record.id):
        name = had.get(device)
        if device in meant and (name == meant[device] or (name is None and device not in attached)):
            continue
        _keep(host, store.volume(record.id, device), folder, name or _lost(record.id, device))


def _files(host: Host, store: Store, vm_id: str) -> list[str]:
    """Return the devices of the volumes in the VM's folder."""
    try:
        names = host.listdir(store.directory(vm_id))
    except PathMissing:
        return []
    return [name[:3] for name in names if re.fullmatch(rf"{DEVICE_PATTERN[1:-1]}\{_ENDING}", name)]


def _keep(host: Host, path: str, folder: str, name: str) -> None:
    if not host.exists(path):
        return
    _make(host, folder)
    target = _path(folder, name)
    if host.exists(target):
        if _twice(host, path, target):
            host.remove(path)
            return
        raise Failed(
            "NQR-VMM-118",
            f"{target} exists; {path} cannot be kept under that name.",
            "Rename that file, then ask again.",
        )
    untrusted.hand_over(host, path, 0)  # no VM's user has it from now on
    if not _renamed(host, path, target):
        _copy(host, path, target, mode=_TWICE)
        host.set_mode(target, mode=0o600, owner="root", group="root")


def _renamed(host: Host, source: str, target: str) -> bool:
    """Return False if the two are on different file systems."""
    try:
        host.rename(source, target)
    except PathError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(host: Host, source: str, target: str, mode: int) -> None:
    """Move a file of root to another file system. Raises NoSpace, PathError."""
    found, folder = host.stat(source), target.rpartition("/")[0]
    require(host, folder, found.allocated if found else 0, source)  # an attempt without a chance would fill the disk first
    host.copy_file(source, target, mode=mode, keep_free=reserve(host.disk_usage(folder)))
    host.remove(source)


def _twice(host: Host, path: str, kept: str) -> bool:
    """Return whether a move that was interrupted left the volume at both places."""
    found, other = host.stat(path), host.stat(kept)
    if found is None or other is None or {found.kind, other.kind} != {Kind.file}:
        return False
    if other.mode != _TWICE or found.size != other.size:
        return False
    return host.sha256(path, seen=found) == host.sha256(kept, seen=other)


def _make(host: Host, folder: str) -> None:
    if host.stat(folder) is None:
        host.mkdir(folder, mode=0o700)


def _name(record: VmRecord, volume: Volume) -> str:
    return volume.kept_name(record.name, record.id)


def _names(record: VmRecord, volumes: Iterable[Volume]) -> dict[str, str]:
    """Device -> name, which tells the volume from others that have or had the device."""
    return {volume.device: _name(record, volume) for volume in volumes}


def _lost(vm_id: str, device: str) -> str:
    """Return the name of a volume that no record names."""
    return kept_volume_name("lost", device, vm_id)


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}{_ENDING}"


def _fits(name: str) -> bool:
    return len(name) <= VOLUME_NAME_LENGTH and re.fullmatch(VOLUME_PATTERN[1:-1], name) is not None
