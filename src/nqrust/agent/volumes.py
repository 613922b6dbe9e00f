"""Volumes: disks beside a VM's own, empty or kept ones. Made before the VM's disk, so that a VM with a disk has them all.

A kept volume is one file, NAME.raw, in the folder of kept volumes; while a VM has it, it lies in the VM's own folder and
nowhere else, so no two VMs can have it. Moving it is one rename(2), and never over another.
"""

from __future__ import annotations

import re

from nqrust.agent.errors import Failed, Refused
from nqrust.agent.store import Store, VmRecord
from nqrust.contract.api.vms import VOLUME_NAME_LENGTH, VOLUME_PATTERN, Volume
from nqrust.contract.api.volumes import KeptVolume
from nqrust.contract.names import kept_volume_name
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, command

MIB = 1 << 20
_ENDING = ".raw"


def create(host: Host, store: Store, folder: str, record: VmRecord) -> None:
    """Empty ones are files with holes: they take room as the guest writes. Kept ones are fetched from `folder`. One that
    is there is left as it is. Raises Refused when a kept one is not on this host."""
    for volume in record.volumes:
        path = store.volume(record.id, volume.device)
        if host.exists(path):
            continue
        if volume.name is None:
            host.write_file(path, b"", mode=0o600)
            host.run(command("truncate", "-s", str(volume.size_mib * MIB), path))
        else:
            source = _path(folder, volume.name)
            if not host.exists(source):
                raise Refused(
                    "NQR-VMM-117", f"There is no kept volume {volume.name} on this host.", "`nqr volume ls` lists what there is."
                )
            host.set_mode(source, mode=0o600, owner="root", group="root")
            host.rename(source, path)


def paths(host: Host, store: Store, record: VmRecord) -> tuple[str, ...]:
    """In the guest's order. Raises Failed when one is gone: an empty one in its place would look like lost data."""
    found = tuple(store.volume(record.id, volume.device) for volume in record.volumes)
    for path in found:
        if not host.exists(path):
            raise Failed("NQR-VMM-111", f"The volume {path} of VM {record.name} is gone.", "Put it back, or delete the VM.")
    return found


def keep(host: Host, store: Store, folder: str, record: VmRecord) -> None:
    """Those that outlive the VM go to `folder`. May be repeated. Raises Failed where another is called so already."""
    for volume in record.volumes:
        path = store.volume(record.id, volume.device)
        if volume.keep and host.exists(path):
            if host.stat(folder) is None:
                host.mkdir(folder, mode=0o700)
            target = _path(folder, _name(record, volume))
            if host.exists(target):
                raise Failed(
                    "NQR-VMM-118", f"{target} exists; the volume of {record.name} cannot be kept under that name.",
                    "Rename that file, then delete the VM again.",
                )
            host.rename(path, target)


def kept(host: Host, folder: str) -> list[KeptVolume]:
    """What is in `folder`, whoever put it there; files that are not called like a volume are not looked at."""
    try:
        names = host.listdir(folder)
    except PathMissing:
        return []
    found = []
    for file in sorted(names):
        name, ending = file[: -len(_ENDING)], file[-len(_ENDING):]
        status = host.stat(f"{folder}/{file}") if ending == _ENDING and _fits(name) else None
        if status is not None:
            found.append(KeptVolume(name=name, size_mib=-(-status.size // MIB)))
    return found


def remove(host: Host, folder: str, name: str) -> None:
    """A kept volume and what is in it are gone; fine when it never was. One that a VM has is not in `folder`."""
    if not _fits(name):
        raise Refused("NQR-API-703", "That is not the name of a volume.", "Use a name that `nqr volume ls` lists.")
    host.remove(_path(folder, name))


def _name(record: VmRecord, volume: Volume) -> str:
    return volume.name or kept_volume_name(record.name, volume.device, record.id)


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}{_ENDING}"


def _fits(name: str) -> bool:
    return len(name) <= VOLUME_NAME_LENGTH and re.fullmatch(VOLUME_PATTERN[1:-1], name) is not None
