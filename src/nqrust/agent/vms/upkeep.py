"""The agent's periodic upkeep: it trims console logs and removes dead console sockets."""

from __future__ import annotations

from nqrust.agent.scopes.port import console_log
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError

LARGEST, KEPT = 1 << 20, 256 << 10  # bytes of a console log before and after trimming
EVERY = 15.0  # seconds


def cut_console_logs(service: VmService) -> list[str]:
    """Keep the last 256 KiB of each log above 1 MiB. Return the VMs whose log was trimmed.

    screen notices that its file was replaced and continues in the new one.
    """
    cut = []
    for vm_id in service.store.ids():
        path = console_log(service.store.directory(vm_id))
        try:
            found = service.host.stat(path)
            if found is not None and found.size > LARGEST:
                tail = service.host.read_bytes(path)[-KEPT:]
                owner = str(found.uid)
                service.host.write_file(path, tail[tail.find(b"\n") + 1 :], mode=0o600, owner=owner, group=owner)
                cut.append(vm_id)
        except HostError:
            continue
    return cut


def remove_dead_consoles(service: VmService) -> None:
    """Remove sockets of dead screens (the host went down, or the VMM was killed with its terminal)."""
    folder = service.settings.screen_dir
    known = {str(record.user) for record in service.store.all()}
    for user in service.host.listdir(folder):
        if user not in known:
            service.host.remove_tree(f"{folder}/{user}")
            continue
        for entry in service.host.listdir(f"{folder}/{user}"):
            pid = entry.partition(".")[0]
            if pid.isdigit() and not service.host.exists(f"/proc/{pid}"):
                service.host.remove(f"{folder}/{user}/{entry}")
