"""Programs that read hostile file systems: as the user who owns the disk, without network and within limits.

e2fsck(8), resize2fs(8), and debugfs(8) parse what a guest wrote. The most that such a program can be made to do is what the
VM could do anyway. unshare(1), prlimit(1), setpriv(1).
"""

from __future__ import annotations

from nqrust.agent import users
from nqrust.agent.errors import Failed
from nqrust.host.errors import CommandTimedOut, PathMissing
from nqrust.host.port import Completed, Host, Kind, command

LONGEST = 900.0
"""Seconds for a check or a resize of a large disk."""
_MEMORY = 4 << 30
_MORE_FILE = 64 << 20  # what debugfs dumps and e2fsck notes beside the disk itself
_OPEN_FILES = 64


def run(host: Host, disk: str, *argv: str, size: int = 0, ok: tuple[int, ...] = (0,)) -> Completed:
    """Run `argv` as the owner of `disk`, which may grow to `size` bytes. No process of it is left when this returns.

    Raises Failed (the disk belongs to no VM's user), CommandFailed, CommandTimedOut, ProgramMissing, PathMissing."""
    found = host.stat(disk)
    if found is None:
        raise PathMissing(disk, "there is no such file")
    if not users.is_vm_user(found.uid):
        raise Failed("NQR-VMM-121", f"{disk} belongs to {found.owner}, not to the VM.", "Stop the VM and start it again.")
    limits = {
        "as": _MEMORY,
        "cpu": int(LONGEST),
        "fsize": max(size, found.size) + _MORE_FILE,
        "nofile": _OPEN_FILES,
        "core": 0,
    }
    try:
        return host.run(
            command(
                *users.alone(
                    found.uid,
                    disk,
                    more=("--pid", "--fork", "--kill-child"),
                    limits=("prlimit", *(f"--{name}={value}" for name, value in limits.items())),
                ),
                *argv,
                ok=ok,
                timeout=LONGEST,
            )
        )
    except CommandTimedOut:
        host.run(users.end_all(found.uid))  # a session of its own outlives the program that was ended
        raise


def scratch(host: Host, disk: str, folder: str) -> None:
    """An empty folder for what such programs read and write, theirs alone."""
    owner = owner_of(host, disk)
    host.remove_tree(folder, synced=False)
    host.mkdir(folder, mode=0o700, owner=owner, group=owner, synced=False)


def owner_of(host: Host, disk: str) -> str:
    """The number of the user who owns `disk`."""
    found = host.stat(disk)
    if found is None:
        raise PathMissing(disk, "there is no such file")
    return str(found.uid)


def written(host: Host, path: str) -> bool:
    """Whether such a program wrote a plain file there: a link could lead to any file of the host."""
    found = host.stat(path)
    return found is not None and found.kind is Kind.file
