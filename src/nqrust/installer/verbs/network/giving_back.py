"""Obstacles to giving a card back to its network manager, found before anything changes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.verbs.network.network_manager import LINKS

_NMCLI = "nmcli"
ASKS_NETWORK_MANAGER = (_NMCLI, "-t", "-f", "RUNNING", "general")
RUNNING = "running"


def programs(commands: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the programs of a manager's commands that a host may have lost. A shell is on each host."""
    return tuple(dict.fromkeys(argv[0] for argv in commands if not argv[0].startswith("/")))


def other_port(host: Host, bridge: str, link: str) -> str:
    """Return a port of the bridge that is neither its card nor a VM's, or an empty string."""
    try:
        ports = host.listdir(f"/sys/class/net/{bridge}/brif")
    except HostError:
        return ""
    return next((port for port in sorted(ports) if port != link and not any(fnmatch.fnmatch(port, one) for one in LINKS)), "")


def manager_answers(host: Host, link: str, commands: Iterable[Sequence[str]]) -> None:
    """Raise StepFailed NQR-NET-170 if the manager could not take the old files: its program is gone, or NetworkManager is not
    running. The guard would otherwise find out in the middle of the change."""
    needed = programs(commands)
    missing = next((one for one in needed if host.which(one) is None), "")
    if missing:
        why = f"the program {missing} is gone"
    elif (
        _NMCLI in needed and host.run(command(*ASKS_NETWORK_MANAGER, ok=tuple(range(256)), timeout=15)).stdout.strip() != RUNNING
    ):
        why = "NetworkManager is not running"
    else:
        return
    raise StepFailed(
        "NQR-NET-170",
        f"{link} cannot go back to its old network: {why}.",
        "Install or start the network manager of this host, then run the same command again. Nothing of the network was changed.",
    )
