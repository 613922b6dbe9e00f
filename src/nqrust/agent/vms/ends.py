"""The end of a VM's processes: of those in its scope, and of those that left it."""

from __future__ import annotations

import time

from nqrust.agent import survivors, users
from nqrust.agent.errors import Failed
from nqrust.agent.scopes.port import Scopes
from nqrust.agent.store import Store
from nqrust.host.port import Host


def end_survivors(host: Host, store: Store, vm_id: str) -> None:
    """End what runs as the VM's user, which is the group of its folder even where its record cannot be read. Raises Failed.

    Nothing of a user that another VM's folder names, too: what runs may be that VM. `claim_user` parts them at the next start."""
    folder = host.stat(store.directory(vm_id))
    if folder is None or not users.is_vm_user(folder.gid) or store.shares_user(vm_id, folder.gid):
        return
    if not survivors.end(host, folder.gid):
        raise unending(vm_id)


def gone(host: Host, scopes: Scopes, vm_id: str, seconds: float) -> bool:
    """Return whether the scope is empty within `seconds`. Checks its known processes between full readings of /proc."""
    deadline = time.monotonic() + seconds
    while (scope := scopes.get(vm_id)) is not None:
        while any(host.exists(f"/proc/{process.pid}") for process in scope.processes):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def unending(vm_id: str) -> Failed:
    cure = "Look for a process in state D (`ps`), or reboot the host."
    return Failed("NQR-VMM-103", f"The processes of VM {vm_id} cannot be ended.", cure)
