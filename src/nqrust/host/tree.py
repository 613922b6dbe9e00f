"""Removes a tree without ever leaving it: not through a symlink, not across a mount. Raises OSError.

Links on the way to it count for root only where root alone can have put them (entering.py).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat

from nqrust.host import mounts
from nqrust.host.entering import entered


def remove_tree(path: str, *, synced: bool = True) -> None:
    """Remove a directory and all below it. A missing one is not an error.

    Refused before any change if something is mounted at or below it (bind mounts included). A mount that appears during the work
    is
    detected by its mount id (proc(5), fdinfo) and stops the removal there.
    """
    folder, name = os.path.split(path.rstrip("/"))
    if not name or name in (".", ".."):
        raise OSError(errno.EINVAL, "not a directory that can be removed", path)
    try:
        parent = entered(folder or "/")
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is not a directory", path)
        canonical = os.path.join(os.readlink(f"/proc/self/fd/{parent}"), name)
        _refuse_mounts(canonical)
        _Remover(canonical, _mount_id(parent)).remove(parent, name)
        if synced:
            os.fsync(parent)
    finally:
        os.close(parent)


_OPEN = 32
"""Levels that are open at a time. The maker of the tree must not decide how many descriptors its removal takes."""


class _Remover:
    """Depth first, with descriptors, without recursion. A folder that is too deep moves up to the tree's own folder first."""

    def __init__(self, path: str, allowed: tuple[int, int]) -> None:
        self.path, self.allowed = path, allowed

    def remove(self, parent: int, name: str) -> None:
        # Each entry: descriptor of the directory, its name in its parent, the remaining names.
        stack = [self._enter(parent, name, self.path)]
        top, _, left_at_top = stack[0]
        try:
            while stack:
                fd, its_name, left = stack[-1]
                if left:
                    entry = left.pop()
                    try:
                        os.unlink(entry, dir_fd=fd)
                    except FileNotFoundError:
                        pass
                    except (IsADirectoryError, PermissionError):
                        # unlink(2) on a directory: EISDIR on Linux, EPERM by POSIX.
                        if not stat.S_ISDIR(os.stat(entry, dir_fd=fd, follow_symlinks=False).st_mode):
                            raise
                        if len(stack) < _OPEN:
                            stack.append(self._enter(fd, entry, self._where(stack, entry)))
                        else:
                            left_at_top.append(self._lift(fd, entry, top, self._where(stack, entry)))
                    continue
                above = stack[-2][0] if len(stack) > 1 else parent
                os.close(fd)
                stack.pop()
                os.rmdir(its_name, dir_fd=above)
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def _enter(self, parent: int, name: str, where: str) -> tuple[int, str, list[str]]:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if _mount_id(fd) != self.allowed:
                raise OSError(errno.EBUSY, "something is mounted here; unmount it first", where)
            return fd, name, sorted(os.listdir(fd), reverse=True)
        except BaseException:
            os.close(fd)
            raise

    def _lift(self, fd: int, entry: str, top: int, where: str) -> str:
        """Move a folder to the top of the tree. A mount point does not move: EBUSY. Nothing else has the new name."""
        name = f".nqr-removed-{secrets.token_hex(16)}"
        try:
            os.rename(entry, name, src_dir_fd=fd, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            raise OSError(errno.EBUSY, "something is mounted here; unmount it first", where) from error
        return name

    def _where(self, stack: list[tuple[int, str, list[str]]], entry: str) -> str:
        return "/".join([self.path, *(name for _, name, _ in stack[1:]), entry])


def _refuse_mounts(canonical: str) -> None:
    with open(mounts.MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        found = mounts.at_or_below(mounts.parse_mountinfo(file.read()), canonical)
    if found:
        raise OSError(errno.EBUSY, "something is mounted here; unmount it first", found[0].mount_point)


def _mount_id(fd: int) -> tuple[int, int]:
    """(device, mount id). The mount id tells bind mounts of the same file system apart."""
    mount_id = 0
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                mount_id = int(line.split()[1])
    return os.fstat(fd).st_dev, mount_id
