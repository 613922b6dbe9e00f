"""Loop devices: loop(4), linux/loop.h.

LO_FLAGS_AUTOCLEAR detaches them after the last close, also when the kernel ends a killed process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator

from nqrust.agent.disks.diskwrite.missing import cannot

_SET_FD, _CLR_FD, _SET_STATUS64, _GET_STATUS64, _CONFIGURE = 0x4C00, 0x4C01, 0x4C04, 0x4C05, 0x4C0A
_CTL_GET_FREE = 0x4C82
_AUTOCLEAR = 4
_INFO = "=5Q4I64s64s32s2Q"  # struct loop_info64
_CONTROL_NUMBER = os.makedev(10, 237)
_MAJOR = 7


@contextlib.contextmanager
def attached(file: int, nodes: str) -> Iterator[str]:
    """Yield the path of a loop device over the open `file`; the device is detached at the end.

    `nodes`: a folder for device nodes if /dev has none, as in a container. Raises Failed (NQR-IMG-107) if the host has no loop
    devices.
    """
    try:
        control = os.open(_node("/dev/loop-control", nodes, stat.S_IFCHR, _CONTROL_NUMBER), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_loop(error) from error
    try:
        device, path = _attach(control, file, nodes)
    except OSError as error:
        raise _no_loop(error) from error
    finally:
        os.close(control)
    try:
        yield path
    finally:
        os.close(device)


def backing_file(name: str) -> tuple[int, int] | None:
    """Return device and inode of the backing file of the loop device `name` (loop0), or None if it is detached."""
    try:
        device = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return _backing_path(name)
    try:
        info = struct.unpack(_INFO, fcntl.ioctl(device, _GET_STATUS64, bytes(struct.calcsize(_INFO))))
        return info[0], info[1]  # the kernel's huge_encode_dev() and makedev(3) agree
    except OSError:
        return None
    finally:
        os.close(device)


def _backing_path(name: str) -> tuple[int, int] | None:
    """Read the backing file from sysfs, for a device without a node: only a path, which may have been renamed since."""
    try:
        with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as file:
            found = os.stat(file.read().rstrip("\n"))
        return found.st_dev, found.st_ino
    except OSError:
        return None


def _attach(control: int, file: int, nodes: str) -> tuple[int, str]:
    for _ in range(50):
        number = fcntl.ioctl(control, _CTL_GET_FREE)
        path = _node(f"/dev/loop{number}", nodes, stat.S_IFBLK, os.makedev(_MAJOR, number))
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _configure(device, file)
            return device, path
        except OSError as error:
            os.close(device)
            if error.errno not in (errno.EBUSY, errno.EAGAIN):  # another process was faster
                raise
    raise OSError(errno.EBUSY, "every loop device was taken by somebody else")


def _configure(device: int, file: int) -> None:
    info = struct.pack(_INFO, 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    try:
        fcntl.ioctl(device, _CONFIGURE, struct.pack("=II", file, 0) + info + bytes(64))
        return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY, errno.ENOSYS):  # Linux 5.8 added LOOP_CONFIGURE
            raise
    fcntl.ioctl(device, _SET_FD, file)
    try:
        fcntl.ioctl(device, _SET_STATUS64, info)
    except OSError:
        fcntl.ioctl(device, _CLR_FD)
        raise


def _node(path: str, nodes: str, kind: int, number: int) -> str:
    """Return `path`, or a node of the same device in `nodes`."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if stat.S_IFMT(found.st_mode) == kind and found.st_rdev == number:
            return path
    own = f"{nodes}/{os.path.basename(path)}"
    if not os.path.lexists(own):
        os.mknod(own, kind | 0o600, number)
    return own


def _no_loop(error: OSError) -> Exception:
    return cannot(
        f"it gives no loop device ({error.strerror})",
        "Load the module loop (`modprobe loop`), or give the container loop devices.",
    )
