"""Listening ports that an installation's services hold, found by process, independent of settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from nqrust.host.errors import HostError
from nqrust.host.facts.model import ListeningPort
from nqrust.host.port import Host
from nqrust.installer.supervisor.port import Supervisor


def own_processes(host: Host, supervisor: Supervisor, services: Iterable[str]) -> frozenset[int]:
    """Return the running main processes of these services and their descendants. Excludes processes that outlive a service:
    VMs have their own sessions, and hold no port that a setting names."""
    mains = {state.pid for name in services if (state := supervisor.state(host, name)).active and state.pid}
    if not mains:
        return frozenset()
    children: dict[int, list[int]] = {}
    for pid in (int(name) for name in host.listdir("/proc") if name.isdigit()):
        children.setdefault(_parent(host, pid), []).append(pid)
    found, todo = set(mains), list(mains)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return frozenset(found)


def users_of(host: Host, processes: Iterable[int]) -> frozenset[int]:
    """Return the users as whom these processes make files and sockets: the fourth number of `Uid` in proc_pid_status(5)."""
    found = set()
    for pid in processes:
        with contextlib.suppress(HostError, ValueError, IndexError):
            found.add(int(host.read_text(f"/proc/{pid}/status").partition("\nUid:")[2].split()[3]))
    return frozenset(found)


def overlaps(port: ListeningPort, address: str, number: int) -> bool:
    """Return whether this listening TCP socket prevents another on ADDRESS:NUMBER (bind(2), EADDRINUSE)."""
    return (
        port.protocol == "tcp"
        and port.port == number
        and (
            port.address == address
            or port.address in _ANY
            or address in _ANY
            or {port.address, address} <= {"localhost", "127.0.0.1"}
        )
    )


def split_bind(bind: str) -> tuple[str, int]:
    """Split ADDRESS:PORT, and remove the brackets of an IPv6 address."""
    address, _, port = bind.rpartition(":")
    return address.strip("[]"), int(port)


_ANY = ("0.0.0.0", "::", "*")


def _parent(host: Host, pid: int) -> int:
    """Return the fourth field of proc_pid_stat(5); the second may contain blanks and parentheses."""
    try:
        return int(host.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    except (HostError, ValueError, IndexError):
        return 0
