"""Regular upkeep by the agent: it keeps logs of VMs small, seals jails, and removes idle TAPs and dead console
sockets.

A guest decides how much its serial port says, and can make its VMM complain. The VM's user owns the logs, and may put
something else in the place of one that lies in its jail. So root cuts what it opened and looked at (untrusted.py), in place:
that needs no room on a disk that is full, and screen and VMM go on in the same file. No program does it as the VM's user: that
user could stop it.
"""

from __future__ import annotations

from nqrust.agent import untrusted, users
from nqrust.agent.scopes.port import console_log
from nqrust.agent.vmm.firecracker import api, jail
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError
from nqrust.host.port import Host, Kind

LARGEST, KEPT = 1 << 20, 256 << 10  # bytes of a log before a cut, and of a console log after it
EVERY = 15.0  # seconds
LOGS_EVERY = 2.0  # seconds; a guest that floods its console writes a few MiB in between


def bound_logs(service: VmService) -> list[str]:
    """Keep the last 256 KiB of each console log above 1 MiB, and nothing of a VMM's log or metrics above it. Returns the
    VMs that had one."""
    host, cut = service.host, []
    for vm_id in service.store.ids():
        directory = service.store.directory(vm_id)
        try:
            folder = host.stat(directory)
            user = folder.gid if folder else 0
            if not users.is_vm_user(user):
                continue
            shortened = [_bounded(host, console_log(directory), user, KEPT)]
            if host.exists(jail.base(directory)):
                top = jail.root(host, directory)
                shortened += [_bounded(host, f"{top}{name}", user, 0) for name in (api.LOG, api.METRICS)]
        except HostError:
            continue  # it went meanwhile, or there is no room for what was to be kept
        if any(shortened):
            cut.append(vm_id)
    return cut


def _bounded(host: Host, path: str, user: int, kept: int) -> bool:
    """Whether the file was too large. `user` may replace it at any moment. A file of anybody else is left alone."""
    found = host.stat(path)
    if found is None or found.kind is not Kind.file or found.allocated <= LARGEST:
        return False
    if found.uid != user:
        return False
    untrusted.cut(path, kept, user)
    return True


def open_jails(service: VmService) -> list[str]:
    """Return the VMs whose user may make files in their jail, though no guest may run then."""
    return [vm_id for vm_id in service.store.ids() if _open_jail(service, vm_id) is not None]


def seal_jail(service: VmService, vm_id: str) -> bool:
    """Seal an open jail after a second look, while no verb is at work on the VM. Return whether it was open. Raises HostError."""
    user = _open_jail(service, vm_id)
    if user is None:
        return False
    jail.seal_again(service.host, service.store.directory(vm_id), user)
    return True


def _open_jail(service: VmService, vm_id: str) -> int | None:
    """Return the VM's user if its jail is open."""
    host, directory = service.host, service.store.directory(vm_id)
    try:
        folder = host.stat(directory)
        if folder is None or not users.is_vm_user(folder.gid) or not host.exists(jail.base(directory)):
            return None
        return folder.gid if jail.open_again(host, directory, folder.gid) else None
    except HostError:
        return None  # it went meanwhile


def idle_taps(service: VmService) -> list[tuple[str, str]]:
    """Return the TAPs (with their VM) of stopped VMs on this host: left over when a guest powered itself off."""
    return [
        (tap.name, tap.vm_id)
        for tap in service.taps.all()
        if tap.vm_id
        and service.store.read(tap.vm_id)
        and not service.taps.in_use(tap.name)
        and service.scopes.get(tap.vm_id) is None
    ]


def remove_idle_tap(service: VmService, name: str, vm_id: str) -> None:
    """Remove an idle TAP after a second look: the VM may have started since."""
    if (name, vm_id) in idle_taps(service):
        service.taps.remove(name, owner=vm_id)


def dead_consoles(service: VmService) -> list[str]:
    """Return the users whose VMs are gone and who have a screen folder. A VM's own is made new at each start, and root reads
    nothing in it."""
    known = {str(record.user) for record in service.store.all()}
    return [user for user in service.host.listdir(service.settings.screen_dir) if user not in known]


def remove_console(service: VmService, user: str) -> None:
    """Remove the screen folder of a VM that is gone, after a second look: its number may be another VM's by now."""
    if user in dead_consoles(service):
        service.host.remove_tree(f"{service.settings.screen_dir}/{user}")
