"""Namespaces, mounts and capabilities of this process: unshare(2), setns(2), mount(2), pivot_root(2), prctl(2).

Python lacks these before 3.12, so this module calls the C library. Everything raises OSError.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move into new namespaces. A new PID namespace applies to the next child."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace of an open /proc/PID/ns file."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    _checked(
        _libc.mount(
            source.encode(errors="surrogateescape"),
            target.encode(errors="surrogateescape"),
            fstype.encode() or None,
            ctypes.c_ulong(flags),
            data.encode(errors="surrogateescape") or None,
        ),
        f"mount {fstype or source} on {target}",
    )


def bind(source: str, target: str, *, read_only: bool = False) -> None:
    """Bind mount one file system, without the mounts below it."""
    mount(source, target, flags=MS_BIND)
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def unmount(target: str, flags: int = 0) -> None:
    _checked(_libc.umount2(target.encode(errors="surrogateescape"), ctypes.c_int(flags)), f"unmount {target}")


def become_root(folder: str) -> None:
    """Make `folder` (a mount point) the root, and detach the old one (pivot_root(2), "pivot_root(".", ".")")."""
    os.chdir(folder)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _checked(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    unmount(".", MNT_DETACH)
    os.chdir("/")


def end_with_parent(signal: int) -> None:
    """Get this signal when the parent ends for any reason (prctl(2), PR_SET_PDEATHSIG)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")


def give_up_capability(number: int) -> None:
    """Drop capabilities permanently for this process and its children (capabilities(7), the bounding set). Skips unknown ones."""
    _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
