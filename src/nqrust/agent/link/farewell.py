"""At host shutdown the agent asks every guest to power off, so that file systems are in order before systemd ends it.

systemd stops the agent before the VMs' scopes (scopes/systemd.py), so there is time. The requested state of each VM does not
change: after the boot, the manager restarts VMs that ended with their host.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nqrust.agent.scopes.port import exit_status
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

GRACE = 40.0
"""Seconds for all guests together. With the time for the listeners it stays below systemd's TimeoutStopSec=, 90."""


def host_goes_down(host: Host) -> bool:
    """Return whether systemd is about to reboot, halt or kexec: `systemctl is-system-running` prints `stopping`.

    Without systemd this is unknown; returns False.
    """
    try:
        asked = command("systemctl", "is-system-running", ok=(0, 1), timeout=10)
        return host.exists("/run/systemd/system") and host.run(asked).stdout.strip() == "stopping"
    except HostError:
        return False


def say(service: VmService, seconds: float = GRACE) -> dict[str, bool]:
    """Ask all running VMs at once. Return for each whether it has powered off. The others are not ended."""
    running = [record for record in service.store.all() if service.scopes.get(record.id) is not None]
    if not running:
        return {}
    with ThreadPoolExecutor(max_workers=len(running), thread_name_prefix="farewell") as pool:
        ended = list(pool.map(lambda record: service.power_off(record.id, record, seconds), running))
    for record, gone in zip(running, ended, strict=True):
        if gone and record.asked == "run":
            # Otherwise it would look as if its user had powered it off, and nobody would restart it after the boot.
            service.host.remove(exit_status(service.store.directory(record.id)))
    return {record.name: gone for record, gone in zip(running, ended, strict=True)}
