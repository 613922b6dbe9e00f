"""Programs that read hostile file systems: as the user and group of the disk, without network and within limits.

e2fsck(8), resize2fs(8), and debugfs(8) parse what a guest wrote. The most that such a program can be made to do is what the
VM could do anyway. unshare(1), prlimit(1), setpriv(1).
"""

from __future__ import annotations

from nqrust.agent import survivors, untrusted, users, view
from nqrust.agent.errors import Failed
from nqrust.host import memory
from nqrust.host.ending import ENDS_WHOLE
from nqrust.host.errors import CommandTimedOut, OutputTooLong, PathMissing
from nqrust.host.port import Completed, Host, Stat, command

LONGEST = 900.0
"""Seconds for a check or a resize of a large disk."""
LARGEST_OUTPUT = 16 << 20
"""Bytes that are read of what such a program says: a guest decides how much there is to say."""
_MEMORY = 4 << 30
_MORE_FILE = 64 << 20  # what debugfs dumps and e2fsck notes beside the disk itself
_OPEN_FILES = _PROCESSES = 64
_CAN_DIE: set[Stat] = set()
"""Files of setpriv(1) whose help told of --pdeathsig. An upgrade replaces the file, and the agent asks again."""


def run(host: Host, disk: str, *argv: str, size: int = 0, grows: bool = True, ok: tuple[int, ...] = (0,)) -> Completed:
    """Run `argv` as the owner of `disk`, which may grow to `size` bytes. `grows`: False for a program that only reads the disk:
    it writes no file of that length. No process of it is left when this returns.

    Raises Failed (the disk belongs to no VM's user), HostError."""
    found = host.stat(disk)
    if found is None:
        raise PathMissing(disk, "there is no such file")
    if not users.is_vm_user(found.uid):
        raise Failed("NQR-VMM-121", f"{disk} belongs to {found.owner}, not to the VM.", "Stop the VM and start it again.")
    limits = {
        "as": _MEMORY,
        "cpu": int(LONGEST),
        "fsize": (max(size, found.size) if grows else 0) + _MORE_FILE,
        "nofile": _OPEN_FILES,
        "nproc": _PROCESSES,
        "core": 0,
    }
    dying, in_dev = _dying(host), [folder for folder in view.IN_DEV if host.exists(folder)]
    try:
        return host.run(
            command(
                *dying,
                *users.alone(
                    found.uid,
                    f"{memory.DIE_FIRST}; {view.only_hidden(disk, in_dev)}",
                    more=ENDS_WHOLE,
                    limits=("prlimit", *(f"--{name}={value}" for name, value in limits.items())),
                    group=found.gid,
                ),
                *dying,  # the change of the user clears it: prctl(2), PR_SET_PDEATHSIG
                *argv,
                ok=ok,
                timeout=LONGEST,
                longest=LARGEST_OUTPUT,
            )
        )
    except (CommandTimedOut, OutputTooLong):
        survivors.end(host, found.uid)  # a session of its own outlives the program that was ended
        raise


def _dying(host: Host) -> tuple[str, ...]:
    """The command, without the program, that ends the program with the process that started it: setpriv of util-linux 2.33."""
    program = host.which("setpriv")
    found = host.stat(program) if program else None
    if found is None or found not in _CAN_DIE:
        if "--pdeathsig" not in host.run(command("setpriv", "--help", ok=(0, 1))).stdout:
            return ()
        if found is not None:
            _CAN_DIE.add(found)
    return ("setpriv", "--pdeathsig", "KILL", "--")


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


def written(host: Host, disk: str, path: str, limit: int) -> bytes | None:
    """Return what such a program wrote to `path`, or None if that is no plain file, or longer than `limit` bytes."""
    return untrusted.written(path, limit, int(owner_of(host, disk)))
