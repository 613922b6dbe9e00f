"""Volumes: empty disks beside a VM's own. Made before the VM's disk, so that a VM with a disk has them all."""

from __future__ import annotations

from nqrust.agent.errors import Failed
from nqrust.agent.store import Store, VmRecord
from nqrust.host.port import Host, command

MIB = 1 << 20


def create(host: Host, store: Store, record: VmRecord) -> None:
    """Files with holes: they take room as the guest writes. One that is there is left as it is."""
    for volume in record.volumes:
        path = store.volume(record.id, volume.device)
        if not host.exists(path):
            host.write_file(path, b"", mode=0o600)
            host.run(command("truncate", "-s", str(volume.size_mib * MIB), path))


def paths(host: Host, store: Store, record: VmRecord) -> tuple[str, ...]:
    """In the guest's order. Raises Failed when one is gone: an empty one in its place would look like lost data."""
    found = tuple(store.volume(record.id, volume.device) for volume in record.volumes)
    for path in found:
        if not host.exists(path):
            raise Failed("NQR-VMM-111", f"The volume {path} of VM {record.name} is gone.", "Put it back, or delete the VM.")
    return found


def keep(host: Host, store: Store, folder: str, record: VmRecord) -> None:
    """Those that outlive the VM go to `folder`, under a name that tells whose they were. May be repeated."""
    for volume in record.volumes:
        path = store.volume(record.id, volume.device)
        if volume.keep and host.exists(path):
            if host.stat(folder) is None:
                host.mkdir(folder, mode=0o700)
            host.rename(path, f"{folder}/{record.name}-{volume.device}-{record.id}.raw")
