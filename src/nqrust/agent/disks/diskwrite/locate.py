"""The disk of a VM: found below the storage root without following links, and locked during the write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import stat
import struct
from collections.abc import Iterator

from nqrust.agent.disks.diskwrite.loop import backing_file
from nqrust.agent.errors import Conflict, Failed

DISK = "disk.ext4"
LARGEST_DISK = 64 << 40
"""Bytes."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def held(vms_dir: str, vm_id: str, *, staged: bool) -> Iterator[int]:
    """Yield a descriptor of `<vms_dir>/<vm_id>/disk.ext4[.new]`, open for reading and writing. Its VM cannot start meanwhile.

    The caller has checked that `vm_id` is a plain name. Raises Failed (it is missing, or not a plain file with one link),
    Conflict (NQR-IMG-108: something uses it).
    """
    with contextlib.ExitStack() as opened:
        try:
            folder = os.open(vms_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, folder)
            folder = os.open(vm_id, _FOLDER, dir_fd=folder)
            opened.callback(os.close, folder)
            disk = os.open(DISK + (".new" if staged else ""), os.O_RDWR | _PLAIN, dir_fd=folder)
            opened.callback(os.close, disk)
            lock = os.open("lock", os.O_RDWR | os.O_CREAT | _PLAIN, 0o600, dir_fd=folder)
            opened.callback(os.close, lock)
        except OSError as error:
            raise Failed(
                "NQR-IMG-109",
                f"The disk of VM {vm_id} cannot be opened ({error.strerror}).",
                "Check that the VM's folder is a plain folder with a plain file in it.",
            ) from error
        found = os.fstat(disk)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > LARGEST_DISK:
            raise Failed(
                "NQR-IMG-109",
                f"The disk of VM {vm_id} is not a separate plain file, or is too large.",
                "Delete the VM and create it again.",
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the launcher of every VMM holds this lock while that runs
        except OSError as error:
            raise _in_use(vm_id, "its VMM runs") from error
        user = _user(disk)
        if user:
            raise _in_use(vm_id, user)
        yield disk


def _in_use(vm_id: str, by: str) -> Conflict:
    return Conflict(
        "NQR-IMG-108", f"The disk of VM {vm_id} is in use: {by}.", "Stop the VM, or end the program that uses its disk."
    )


def _user(disk: int) -> str:
    """Return a description of the process that has the file open, or "" if only this process has."""
    found = os.fstat(disk)
    for path in glob.glob("/sys/block/loop*/loop"):
        if backing_file(os.path.basename(os.path.dirname(path))) == (found.st_dev, found.st_ino):
            return "a loop device is attached to it"
    # A lock of another open file description. QEMU marks its disks so: F_OFD_GETLK of fcntl(2).
    probe = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with contextlib.suppress(OSError):
        if struct.unpack_from("h", fcntl.fcntl(disk, fcntl.F_OFD_GETLK, probe))[0] != fcntl.F_UNLCK:
            return "a program has locked it"
    me = os.readlink("/proc/self")  # in a PID namespace, the number of this process in /proc
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        pid = link.split("/")[2]
        if pid == me:
            continue
        try:
            other = os.stat(link)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.ENXIO, errno.ENOTDIR):
                continue
            raise
        if (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino):
            return f"process {pid} has it open"
    return ""
