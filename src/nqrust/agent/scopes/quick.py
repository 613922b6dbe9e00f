"""Answers about one VM without reading all of /proc. Each is certain in one direction; otherwise the caller reads /proc.

The group of a VM's folder is its user, whom all of its processes have but the launcher. The launcher holds the VM's lock.
"""

from __future__ import annotations

import fcntl
import os

from nqrust.agent import survivors, users
from nqrust.agent.scopes.port import lock
from nqrust.host.port import Host


def vacant(host: Host, directory: str) -> bool:
    """Return whether certainly nothing of the VM in `directory` runs: no process of its user, and no launcher.

    A launcher takes the lock milliseconds after its start. One of an agent that was killed in between can be missed: the lock
    keeps it from starting a second VMM.
    """
    user = owner(host, directory)
    return user is not None and survivors.none(host, user) and _free(lock(directory))


def pids(host: Host, directory: str) -> list[str]:
    """Return the processes of the VM's user. The folder of a process in /proc belongs to its effective user, also if the process
    hides what is in there (PR_SET_DUMPABLE)."""
    user = owner(host, directory)
    if user is None or survivors.absent(user):
        return []
    return [name for name in os.listdir("/proc") if name.isdigit() and _effective_user(name) == user]


def owner(host: Host, directory: str) -> int | None:
    """Return the VM's user. None if there is no folder, or no user yet."""
    folder = host.stat(directory)
    return folder.gid if folder is not None and users.is_vm_user(folder.gid) else None


def launched(directory: str) -> bool:
    """Return whether a launcher holds the VM's lock. The copy of a folder has a lock file that nobody holds."""
    return not _free(lock(directory))


def _effective_user(pid: str) -> int:
    """Return -1 if the process has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _free(path: str) -> bool:
    """Whether nobody holds a flock(2) on the file. A missing file is free: a launcher makes it before it locks it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
