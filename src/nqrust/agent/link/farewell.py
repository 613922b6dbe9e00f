"""The host goes down: every guest is asked to power off, so that its file systems are in order before systemd ends it.

The agent is stopped before the VMs' scopes are (scopes/systemd.py), so there is time for it. What was asked of each VM
stays as it is: after the boot, VMs that ended with their host are the manager's to start again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nqrust.agent.scopes.port import exit_status
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

GRACE = 40.0
"""Seconds for all guests together; with what the listeners need it stays below systemd's TimeoutStopSec=, 90."""


def host_goes_down(host: Host) -> bool:
    """Whether systemd is on its way to a reboot, a halt or a kexec: `systemctl is-system-running` says `stopping`.
    Without systemd nobody can say; False."""
    try:
        asked = command("systemctl", "is-system-running", ok=(0, 1), timeout=10)
        return host.exists("/run/systemd/system") and host.run(asked).stdout.strip() == "stopping"
    except HostError:
        return False


def say(service: VmService, seconds: float = GRACE) -> dict[str, bool]:
    """Ask all VMs that run, at once. Returns for each whether it has powered off; the others are left as they are."""
    running = [record for record in service.store.all() if service.scopes.get(record.id) is not None]
    if not running:
        return {}
    with ThreadPoolExecutor(max_workers=len(running), thread_name_prefix="farewell") as pool:
        ended = list(pool.map(lambda record: service.power_off(record.id, record, seconds), running))
    for record, gone in zip(running, ended, strict=True):
        if gone and record.asked == "run":
            # Else it would look as if its user had powered it off, who wants it back after the boot.
            service.host.remove(exit_status(service.store.directory(record.id)))
    return {record.name: gone for record, gone in zip(running, ended, strict=True)}
