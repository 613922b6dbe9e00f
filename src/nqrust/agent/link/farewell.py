"""When the host shuts down the agent asks every guest to power off, so that its file systems are in order before it ends.

systemd stops the agent before the VMs' scopes (scopes/systemd.py), so there is time. Elsewhere nobody knows of a shutdown, so
`nqr services stop` leaves a request before it stops the agent. The requested state of each VM does not change: after the next
start, the manager restarts VMs that ended with their host.
"""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor

from nqrust.agent.facts import WENT_DOWN
from nqrust.agent.scopes.port import exit_status
from nqrust.agent.vms.service import VmService
from nqrust.contract.paths import GOES_DOWN
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

GRACE = 40.0
"""Seconds for all guests together. With the time for the listeners it stays below the time for the agent's stop, 90."""


def due(host: Host, state_dir: str) -> float | None:
    """Return for how many seconds the agent, which ends, asks its guests to power off. None: it leaves them alone.

    A request counts once. VMs then end as at a shutdown of the host, so its boot id changes.
    """
    path, seconds = f"{state_dir}/{GOES_DOWN}", GRACE
    if not host.exists(path):
        return GRACE if host_goes_down(host) else None
    with contextlib.suppress(HostError):  # a full disk must not keep guests from being asked
        asked = host.read_text(path).strip()
        seconds = float(asked) if asked.isdigit() else GRACE
        host.remove(path)
        host.write_file(f"{state_dir}/{WENT_DOWN}", uuid.uuid4().hex.encode(), mode=0o600)
    return seconds


def forget(host: Host, state_dir: str) -> None:
    """Forget a request that came while no agent ran."""
    host.remove(f"{state_dir}/{GOES_DOWN}")


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
