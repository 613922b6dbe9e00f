"""mount(2) and umount2(2), which Python lacks. They run only in this process's own mount namespace: unshare(2)."""

from __future__ import annotations

import ctypes
import errno
import os

from nqrust.agent.disks.diskwrite.missing import cannot
from nqrust.agent.errors import AgentError, Failed

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _NOATIME = 1, 2, 4, 8, 32, 1024
_REC, _PRIVATE = 16384, 1 << 18
_DETACH, _NOFOLLOW = 2, 8
_NEWNS = 0x20000  # linux/sched.h: CLONE_NEWNS
_SAFE = _NOSUID | _NODEV | _NOEXEC | _NOATIME
_OPTIONS = {"xfs": "nouuid", "btrfs": ""}  # all copies of an image have the image's UUID

_libc = ctypes.CDLL(None, use_errno=True)


def make_private() -> str:
    """Create a mount namespace for this process, with a tmpfs in place of the host's /run, and return a folder in it.

    Nobody else sees its mounts, and the sockets of the host's services are hidden. The checker's user reaches its device there. Raises Failed if that is not allowed.
    """
    try:
        if _libc.unshare(_NEWNS) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        _mount("none", "/", "", _REC | _PRIVATE, "")
        _mount("tmpfs", "/run", "tmpfs", _NOSUID | _NOEXEC, "size=1m,mode=0711")
    except OSError as error:
        raise cannot(
            f"it cannot have a mount namespace of its own ({error.strerror})",
            "Start the agent as root, and allow mounts in the container.",
        ) from error
    return "/run"


class Mount:
    """The file system on a block device, mounted read-only first, at `folder`.

    nosuid, nodev, noexec: nothing in it is executed, and its device nodes do not work.
    """

    def __init__(self, device: str, kind: str, folder: str) -> None:
        self._device, self._kind, self.folder = device, kind, folder

    def __enter__(self) -> Mount:
        os.mkdir(self.folder, 0o700)
        try:
            self._again(_RDONLY)
        except OSError as error:
            raise refused(self._kind, error) from error
        return self

    def writable(self) -> None:
        try:
            self._again(_REMOUNT)
        except OSError as error:
            raise refused(self._kind, error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Treat a failure to unmount as a failure to write, unless something else failed before."""
        path = self.folder.encode()
        if _libc.umount2(path, _NOFOLLOW) == 0:
            return
        number = ctypes.get_errno()
        _libc.umount2(path, _NOFOLLOW | _DETACH)
        if kind is None:
            raise Failed(
                "NQR-IMG-103",
                f"The VM's disk could not be closed after writing ({os.strerror(number)}).",
                "Look for errors of the disk in the host's kernel log.",
            )

    def _again(self, flags: int) -> None:
        _mount(self._device, self.folder, self._kind, _SAFE | flags, _OPTIONS[self._kind])


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    ctypes.set_errno(0)
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def refused(kind: str, error: OSError) -> AgentError:
    if error.errno == errno.ENODEV:
        return cannot(f"its kernel does not know {kind}", f"Load the module {kind} (`modprobe {kind}`), or use an ext4 image.")
    if error.errno == errno.EEXIST:
        return cannot(
            f"another {kind} file system with the same identity is mounted", "Unmount it, or use an image of another one."
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return cannot(f"it may not mount ({error.strerror})", "Allow mounts in the container, or use an ext4 image.")
    return Failed(
        "NQR-IMG-102",
        f"The image's file system is damaged or not {kind} (the kernel refuses it: {error.strerror}).",
        "Build or add the image again.",
    )
