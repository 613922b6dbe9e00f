"""Ends every process of a user that does all it can to stay.

A program in the hands of an attacker can fork without end, and can stop or kill whatever runs as its own user. It can start the
next process and end, so that who looks for it finds a number that is gone. So the thread that ends them runs as that user
only in part (credentials(7)): its effective user may signal all of them. Its real and saved user, which a sender is compared
with, is a number that nothing else has. kill(2): -1 is every process that the caller may signal, itself excluded. The kernel
sends that in one step, and a fork(2) that is under way fails.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading

ENDS_WHOLE = ("--pid", "--fork", "--kill-child")
"""Options of unshare(1): with the program end all processes that it has started, whoever they are by then. pid_namespaces(7)"""
_SETRESUID, _KILL = 117, 62  # of x86_64
_NO_CAPABILITIES = f"CapEff:\t{0:016x}\n"


def kill_all_of(user: int, other: int) -> None:
    """Send SIGKILL to every process of `user`. `other`: a user that has no process. Raises OSError."""
    if platform.machine() != "x86_64" or not user or not other:
        raise OSError(errno.ENOSYS, "the processes of a user cannot be ended here")
    failed: list[OSError] = []
    thread = threading.Thread(target=_kill, args=(user, other, failed))
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _kill(user: int, other: int, failed: list[OSError]) -> None:
    """In a thread that ends afterwards. The C library's own setresuid(3) would change all threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.syscall(_SETRESUID, other, user, other):
            raise OSError(ctypes.get_errno(), "the user of a thread cannot be changed")
        with open("/proc/thread-self/status", encoding="utf-8", errors="replace") as file:
            status = file.read()
        # With a capability left, -1 would be every process of the machine.
        if f"Uid:\t{other}\t{user}\t{other}\t" not in status or _NO_CAPABILITIES not in status:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if libc.syscall(_KILL, -1, 9) and ctypes.get_errno() != errno.ESRCH:
            raise OSError(ctypes.get_errno(), "the processes of a user cannot be ended")
    except OSError as error:
        failed.append(error)
