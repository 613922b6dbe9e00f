"""Processes of a VM's user, wherever they are: outside its scope, or in namespaces of their own.

A program in the VM's hands can fork without end, and can stop or kill whatever runs as its own user. So the process that ends
them runs as that user only in part (credentials(7)): its effective user may signal all of them. Its real and saved user,
which a sender is compared with, is a number that nothing else has. kill(2): -1 is every process that the caller may signal,
itself excluded. The kernel sends that in one step, and a fork(2) that is under way fails.
"""

from __future__ import annotations

import os
import sys

from nqrust.agent import users
from nqrust.agent.processes import parse_stat
from nqrust.contract.names import VM_USERS
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command

_LONGEST = 10.0  # seconds until all are gone
_KILL = """\
import os, sys
user, other = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(other, other, other)
os.setresuid(other, user, other)
try:
    os.kill(-1, 9)
except ProcessLookupError:
    pass
"""


def end(host: Host, user: int, seconds: float = _LONGEST) -> bool:
    """End every process of `user`. Returns whether all are gone; one that waits for a broken disk may not be."""
    deadline = host.monotonic() + seconds
    while not none(host, user):
        if host.monotonic() > deadline:
            return False
        host.run(command(sys.executable, "-I", "-S", "-c", _KILL, str(user), str(user + len(VM_USERS)), timeout=10, ok=(0, 1)))
        host.sleep(0.01)
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
