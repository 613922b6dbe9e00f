"""The verb disk-write: look at the disk, check it, mount it, write, unmount."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from nqrust.agent import users
from nqrust.agent.disks.diskwrite import accounts, files, network
from nqrust.agent.disks.diskwrite.confined import Tree
from nqrust.agent.disks.diskwrite.document import GuestFile, Request
from nqrust.agent.disks.diskwrite.locate import held
from nqrust.agent.disks.diskwrite.loop import attached
from nqrust.agent.disks.diskwrite.missing import cannot
from nqrust.agent.disks.diskwrite.mounting import Mount
from nqrust.agent.disks.netconf import choose
from nqrust.agent.disks.netconf.configurator import Nic
from nqrust.agent.errors import Failed
from nqrust.contract.images import MOUNTING_NEEDS
from nqrust.host.ending import ENDS_WHOLE
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, OutputTooLong
from nqrust.host.facts import superblock
from nqrust.host.port import Host, command

CHECK_SECONDS = 600
_MEMORY = 4 << 30  # bytes of address space of a checker
_LARGEST_OUTPUT = 16 << 20  # bytes of a checker
_GROWS_FROM = {"xfs": 0, "btrfs": 256 << 20}  # bytes; Btrfs resizes to no less: btrfs-filesystem(8)
_OF_UTIL_LINUX = ("prlimit", "setpriv", "unshare")
_NOBODY = 65534  # for a disk that is no VM's
_DIRTY = "valuable metadata changes in a log"


def write(host: Host, vms_dir: str, request: Request, nodes: str) -> str:
    """Write all of `request` into its VM's disk and sync it. Return a description of the written network configuration.

    `nodes`: a folder of this process. Raises AgentError; a failed request may leave the disk half written.
    """
    _have_programs(host, request.type)
    with held(vms_dir, request.vm_id, staged=request.staged) as disk:
        size = os.fstat(disk).st_size
        claimed = examine(os.pread(disk, superblock.HEAD, 0), size, request.type)
        with _alone(vms_dir, request.type), attached(disk, nodes) as device:
            checked, user = _for_checker(device, f"{nodes}/checked", os.fstat(disk).st_uid)
            check(host, request.type, checked, user, replay=lambda: _replay(device, request.type, f"{nodes}/log"))
            with Mount(device, request.type, f"{nodes}/disk") as mounted:
                told = _fill(host, request, mounted, grow=claimed < size and size >= _GROWS_FROM[request.type])
        os.fsync(disk)
    return told


def examine(head: bytes, size: int, kind: str) -> int:
    """Return the size of the file system in bytes.

    Raises Failed (NQR-IMG-102) unless `head` begins a file system of type `kind` that fits into `size` bytes.
    """
    found = superblock.parse(head)
    if found.type != kind:
        raise _damaged(
            f"it is {found.type or 'of no known type'}, and the image says {kind}", "Correct rootfs_type in image.json."
        )
    if found.size is None or not 0 < found.size <= size:
        raise _damaged(f"it claims {found.size} bytes of a disk of {size}")
    if not found.alone:
        raise _damaged("it needs other devices too")
    return found.size


def _for_checker(device: str, node: str, owner: int) -> tuple[str, int]:
    """Return a node of the device that a user without privileges can read, and that user: that of the VM.

    An owner could permit himself to write, and a hostile file system may have taken over the checker.
    """
    user = owner if users.is_vm_user(owner) else _NOBODY
    os.mknod(node, stat.S_IFBLK, os.stat(device).st_rdev)
    os.chown(node, 0, user)
    os.chmod(node, 0o040)
    return node, user


def check(host: Host, kind: str, device: str, user: int, replay: Callable[[], None]) -> None:
    """Run the file system's own checker, read-only, as `user`, with limits; nothing of it is left. `replay` first replays the log that a killed VM left."""
    try:
        _check(host, kind, device, user)
    except CommandFailed as error:
        if kind != "xfs" or _DIRTY not in error.stdout + error.stderr:
            raise _damaged(str(error)) from error
        replay()
        try:
            _check(host, kind, device, user)
        except (CommandFailed, OutputTooLong) as again:
            raise _damaged(str(again)) from again
    except (CommandTimedOut, OutputTooLong) as error:
        raise _damaged(str(error)) from error


def _check(host: Host, kind: str, device: str, user: int) -> None:
    checker = ("xfs_repair", "-n", device) if kind == "xfs" else ("btrfs", "check", "--readonly", device)
    limits = (f"--as={_MEMORY}", f"--cpu={CHECK_SECONDS}", "--core=0")
    argv = ("unshare", *ENDS_WHOLE, "prlimit", *limits, *users.become(user), *checker)
    told = host.run(command(*argv, timeout=CHECK_SECONDS, longest=_LARGEST_OUTPUT))
    if kind == "xfs" and _DIRTY in told.stdout + told.stderr:
        raise CommandFailed(told.argv, told.code, told.stderr, told.stdout)


def _replay(device: str, kind: str, folder: str) -> None:
    with Mount(device, kind, folder):
        pass


def _fill(host: Host, request: Request, mounted: Mount, *, grow: bool) -> str:
    tree = Tree(mounted.folder)
    try:
        added, told = _network(tree, request)
        written = [*request.files, *added]
        files.look(tree, written)
    finally:
        tree.close()  # an open descriptor would block a remount
    mounted.writable()
    if grow:
        _grow(host, request.type, mounted.folder)
    tree = Tree(mounted.folder)
    try:
        files.write(tree, written)
        if request.users:
            accounts.write(tree, request.users)
    finally:
        tree.close()
    with files.writing("The new content"):
        _sync(mounted.folder)
    return told


def _network(tree: Tree, request: Request) -> tuple[list[GuestFile], str]:
    if request.network is None:
        return [], ""
    passwords = request.network.passwords or any(user.password_hash for user in request.users)
    nic = Nic(request.network.mac, request.vm_id, request.network.hostname, passwords, request.network.user_data)
    plan = choose.decide(network.look(tree, choose.wanted()), nic)
    return [GuestFile(path=path, mode=mode, content=text) for path, (mode, text) in plan.files.items()], plan.told


def _grow(host: Host, kind: str, folder: str) -> None:
    grower = ("xfs_growfs", "-d", folder) if kind == "xfs" else ("btrfs", "filesystem", "resize", "max", folder)
    try:
        host.run(command(*grower, timeout=CHECK_SECONDS))
    except HostError as error:
        raise _damaged(f"it cannot be grown: {error}") from error


def _sync(folder: str) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def _alone(vms_dir: str, kind: str) -> Iterator[None]:
    """Allow one Btrfs at a time: Btrfs identifies file systems by an ID that all copies of an image share."""
    if kind != "btrfs":
        yield
        return
    folder = os.open(vms_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)  # until the deadline of the whole request
        yield
    finally:
        os.close(folder)


def _have_programs(host: Host, kind: str) -> None:
    package, programs = MOUNTING_NEEDS[kind]
    for program in (*_OF_UTIL_LINUX, *programs):
        if host.which(program) is None:
            raise cannot(f"{program} is not installed", f"Install {'util-linux' if program in _OF_UTIL_LINUX else package}.")


def _damaged(why: str, cure: str = "Build or add the image again.") -> Failed:
    return Failed("NQR-IMG-102", f"The image's file system cannot be used ({why}).", cure)
