"""Processes of a VM's user, wherever they are: outside its scope, or in namespaces of their own."""

from __future__ import annotations

import os

from nqrust.agent import users
from nqrust.agent.processes import parse_stat
from nqrust.contract.names import VM_USERS
from nqrust.host.errors import HostError
from nqrust.host.port import Host

_LONGEST = 10.0  # seconds until all are gone


def end(host: Host, user: int, seconds: float = _LONGEST) -> bool:
    """End every process of `user`. Returns whether all are gone; one that waits for a broken disk may not be."""
    if absent(user):
        return True
    deadline, other = host.monotonic() + seconds, user + len(VM_USERS)
    host.kill_all_of(user, other)  # first: a program that starts the next one and ends is in no reading of /proc
    while not none(host, user):
        if host.monotonic() > deadline:
            return False
        host.sleep(0.01)
        host.kill_all_of(user, other)
    return True


def none(host: Host, user: int) -> bool:
    """Return whether no process of `user` runs."""
    return absent(user) or user not in running(host)


def absent(user: int) -> bool:
    """Return whether certainly no process has this real user, in this PID namespace and those below it.

    The kernel goes through its own list for getpriority(2), in microseconds. A reading of /proc takes milliseconds, and misses
    what forks meanwhile. A zombie counts as a process here: `running` tells it from others.
    """
    try:
        os.getpriority(os.PRIO_USER, user)
    except ProcessLookupError:
        return True
    return False


def running(host: Host) -> set[int]:
    """Return the users of VMs that have a process, in any namespace, from one look at all of /proc."""
    found = set()
    for pid in host.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            user = users.of_process(host, f"/proc/{pid}")
            if users.is_vm_user(user) and parse_stat(host.read_text(f"/proc/{pid}/stat"))[1]:
                found.add(user)
        except (HostError, ValueError, IndexError):
            continue  # it ended meanwhile
    return found
