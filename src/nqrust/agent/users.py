"""The user of a VM's processes: a number of its own, without a name, without privileges and without a way to get any.

setpriv(1), unshare(1), capabilities(7). The numbers are from a range that no distribution gives to people, services, or
containers (systemd, "Users, Groups, UIDs and GIDs on systemd Systems").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection

from nqrust.contract.names import VM_USERS
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host

_OPEN_FILES = 2048  # the default of Firecracker's jailer
_VIEWERS = 64  # processes of consoles, which are no part of the VM's scope
NOTHING = ("unshare", "--net", "--ipc")
"""Namespaces without network and without the System V IPC of the host. Abstract Unix sockets belong to a network namespace."""
VIEW = (*NOTHING, "--mount", "--propagation", "slave")
"""The same, and a mount namespace that sees what the host mounts and unmounts, and whose own mounts the host does not see."""


def become(user: int, group: int | None = None, *, shielded: bool = False) -> tuple[str, ...]:
    """The command, without the program, that gives up root for good. `group`: default the number of the user.

    Use it in namespaces of the VM only: a process of the VM can open /proc/PID/mem and the namespaces of others of its user.
    `shielded`: not of this one. ptrace(2) asks for all capabilities that the other process has, and this one has CAP_SETPCAP. With
    that alone in the bounding set, it can only give up that one. setpriv(1) itself needs it, so every host has it.
    """
    kept = "-all,+setpcap" if shielded else "-all"
    return (
        "setpriv",
        f"--reuid={user}",
        f"--regid={user if group is None else group}",
        "--clear-groups",
        f"--inh-caps={kept}",
        *((f"--ambient-caps={kept}",) if shielded else ()),
        f"--bounding-set={kept}",
        "--no-new-privs",
        "--",
    )


def alone(
    user: int, hide: str, more: tuple[str, ...] = (), limits: tuple[str, ...] = (), group: int | None = None
) -> tuple[str, ...]:
    """`become` for a program that the agent runs: in namespaces of its own, after the shell line `hide`.

    `more`: of unshare(1). `limits`: a command, such as prlimit(1), that runs the rest as root."""
    return (*VIEW, *more, "sh", "-c", f'{hide} && exec "$@"', "sh", *limits, *become(user, group))


def limited(tasks: int, largest_file: int | None = None) -> tuple[str, ...]:
    """The command, without the program, that limits each of a VM's processes: setrlimit(2), prlimit(1).

    `tasks`: processes and threads of its user. A dump of a VMM would hold the guest's memory. With a limit of 0, Linux still gives it
    to a program such as Apport, which may keep it. With 1 it makes none: fs/coredump.c.
    """
    size = () if largest_file is None else (f"--fsize={largest_file}",)
    return ("prlimit", "--core=1", f"--nofile={_OPEN_FILES}", f"--nproc={tasks + _VIEWERS}", *size)


def free(taken: Collection[int], folder: str, unused: Callable[[int], bool] = lambda number: True) -> int:
    """Return the first number that is `unused` and not in `taken`. A host has room for far fewer VMs than there are numbers.

    The search begins where the folder of the VMs says, so that two agents of one machine give out different numbers.
    """
    start = zlib.crc32(folder.encode()) % len(VM_USERS)
    numbers = (VM_USERS[(start + step) % len(VM_USERS)] for step in range(len(VM_USERS)))
    return next(number for number in numbers if number not in taken and unused(number))


def user_of(status: str) -> int:
    """Return the real user of /proc/PID/status, which a process without privileges cannot change. -1 if there is none."""
    found = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else -1


def is_roots(host: Host, process: str) -> bool:
    """Whether the effective user of `process`, a folder in /proc, is root. The folder belongs to that user, also if root owns what
    is in it (PR_SET_DUMPABLE). Raises PathMissing."""
    return _effective(host, process) == 0


def of_process(host: Host, process: str) -> int:
    """Return the VM's user that `process`, a folder in /proc, runs as, or -1. Only then is a file opened there.

    With no_new_privs nothing of a VM gets another effective user than its real one. The process that ends those of a user has
    that user as its effective user alone. Raises PathMissing.
    """
    if not is_vm_user(_effective(host, process)):
        return -1
    return user_of(host.read_text(f"{process}/status"))


def _effective(host: Host, process: str) -> int:
    found = host.stat(process)
    if found is None:
        raise PathMissing(process, "the process has ended")
    return found.uid


def is_vm_user(number: int) -> bool:
    return number in VM_USERS


def passwd(directory: str) -> str:
    """The passwd(5) of the VM whose folder is `directory`."""
    return f"{directory}/passwd"


def passwd_text(user: int) -> str:
    return f"root:x:0:0:root:/:/usr/sbin/nologin\nvm:x:{user}:{user}:VM:/:/usr/sbin/nologin\n"


def seal(host: Host, folder: str, user: int) -> None:
    """From now on the VM's user passes through `folder`, and makes nothing in it: a program in the hands of a guest would fill the
    file system, with files that no limit counts. Raises a HostError."""
    host.set_mode(folder, mode=0o710, owner="root", group=str(user))
