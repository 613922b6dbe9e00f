"""Files of a mounted, untrusted tree: every path is resolved as if the tree were the root.

Linux 5.6 has openat2(2) with RESOLVE_IN_ROOT. On older kernels the code walks the path one name at a time without
following links (O_NOFOLLOW), and resolves links itself. Only this process has the tree mounted, so nothing changes between
two steps. The last name is never followed: rename(2) replaces it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import platform
import secrets
import stat
import struct
from collections.abc import Iterator

_NR_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x01, 0x02, 0x10
_HOW = struct.pack(
    "=QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT
)
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40  # the kernel's limit: path_resolution(7)
_LABEL = "security.selinux"

_libc = ctypes.CDLL(None, use_errno=True)


class Tree:
    """A tree with absolute paths as the guest sees them. Every method raises OSError; ELOOP and ENOTDIR point to odd images.

    `native`: whether to use openat2. None: if the kernel has it.
    """

    def __init__(self, root: str, native: bool | None = None) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.native = _has_openat2(self._root) if native is None else native

    def close(self) -> None:
        os.close(self._root)

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """Return a descriptor (O_PATH) of the folder at `path`. Links are followed inside the tree."""
        found = _openat2(self._root, path) if self.native else self._walk(path)
        try:
            yield found
        finally:
            os.close(found)

    def status(self, path: str) -> os.stat_result | None:
        """lstat(2), or None if nothing is there."""
        parent, name = _split(path)
        try:
            with self.folder(parent) as folder:
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_folder(self, path: str) -> bool:
        """Return whether the path is a folder or a link to one in this tree. Raises OSError if it is something else."""
        try:
            with self.folder(path):
                return True
        except FileNotFoundError:
            if self.status(path) is not None:  # a dangling link
                raise
            return False

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the content of the plain file at `path`, or None if nothing is there.

        Raises OSError if it is anything else (also a link) or longer than `limit` bytes.
        """
        parent, name = _split(path)
        try:
            with self.folder(parent) as folder:
                if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.EINVAL, "it is no plain file")
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        with os.fdopen(file, "rb") as opened:
            content = opened.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it is longer than {limit} bytes")
        return content

    def target(self, path: str) -> str:
        """readlink(2)."""
        parent, name = _split(path)
        with self.folder(parent) as folder:
            return os.readlink(name, dir_fd=folder)

    def names(self, path: str, limit: int) -> list[str]:
        """List the folder at `path`, which is not a link. Raises OSError if it has more than `limit` entries."""
        parent, name = _split(path)
        with self.folder(parent) as folder:
            opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(opened) as entries:
                found = [entry.name for entry in itertools.islice(entries, limit + 1)]
        finally:
            os.close(opened)
        if len(found) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit} things")
        return sorted(found)

    def make_folder(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        parent, name = _split(path)
        with self.folder(parent) as folder:
            os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchown(made, uid, gid)
                os.fchmod(made, mode)
                _label(made, _label_of(folder, "."))
            finally:
                os.close(made)

    def set_access(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Set a folder's mode and owner."""
        with self.folder(path) as folder:
            opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchown(opened, uid, gid)
                os.fchmod(opened, mode)
            finally:
                os.close(opened)

    def write(self, path: str, content: bytes, *, mode: int, uid: int, gid: int) -> None:
        """Replace the entry at `path` (also a link, device node or socket; not a folder). On return it is on the disk."""
        parent, name = _split(path)
        new = f".nqr-{secrets.token_hex(6)}"
        with self.folder(parent) as folder:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise OSError(errno.EISDIR, "it is a folder")
            label = _label_of(folder, name) or _label_of(folder, ".")
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                with os.fdopen(file, "wb") as opened:
                    opened.write(content)
                    opened.flush()
                    os.fchown(file, uid, gid)
                    os.fchmod(file, mode)
                    _label(file, label)
                    os.fsync(file)
                os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=folder)
                raise

    def _walk(self, path: str) -> int:
        """Resolve as openat2 does with RESOLVE_IN_ROOT."""
        left = [name for name in reversed(path.split("/")) if name not in ("", ".")]
        way = [os.dup(self._root)]  # the folders from the root to here: `..` goes back along it, never above
        links = 0
        try:
            while left:
                name = left.pop()
                if name == "..":
                    if len(way) > 1:
                        os.close(way.pop())
                    continue
                step = os.open(name, _STEP, dir_fd=way[-1])
                way.append(step)
                kind = os.fstat(step).st_mode
                if stat.S_ISLNK(kind):
                    links += 1
                    if links > _LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    target = os.readlink("", dir_fd=step)
                    os.close(way.pop())
                    if target.startswith("/"):
                        while len(way) > 1:
                            os.close(way.pop())
                    left += [name for name in reversed(target.split("/")) if name not in ("", ".")]
                elif not stat.S_ISDIR(kind):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return way.pop()
        finally:
            for opened in way:
                os.close(opened)


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "it is no name of a file")
    return parent or "/", name


def _openat2(root: int, path: str) -> int:
    ctypes.set_errno(0)
    how = ctypes.create_string_buffer(_HOW, len(_HOW))
    found = int(_libc.syscall(ctypes.c_long(_NR_OPENAT2), root, os.fsencode(path), how, ctypes.c_size_t(len(_HOW))))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _has_openat2(root: int) -> bool:
    if platform.system() != "Linux":
        return False
    try:
        os.close(_openat2(root, "/"))
        return True
    except OSError:  # ENOSYS; EPERM from a seccomp filter that does not know the call
        return False


def _label_of(folder: int, name: str) -> bytes:
    """Return the SELinux label of a file or folder, so that an enforcing guest can read the replacement.

    Reading a label needs a descriptor that is open for reading.
    """
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.getxattr(opened, _LABEL)
    except OSError:
        return b""
    finally:
        os.close(opened)


def _label(file: int, label: bytes) -> None:
    if label:
        with contextlib.suppress(OSError):  # a host with its own policy may refuse an unknown label
            os.setxattr(file, _LABEL, label)
