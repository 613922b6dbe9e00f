"""The jail of a Firecracker: what the jailer makes of its folder, and what is put into it. jailer.md of Firecracker.

DIRECTORY/jail/firecracker/<id>/root    root of the VM's processes; they may write there
  kernel, initrd, disk0, disk1 ...      empty files; the VM's mount namespace shows the real ones in their place
  firecracker.sock, .log, .metrics
  guest/      the socket of the guest's vsock
  saved/      the snapshot that the VM starts from; root's, so that nothing there is replaced while root mounts it
  snapshot/   where a snapshot is written; only while it is taken
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from socket import socket as stream_socket

from nqrust.agent import untrusted, users
from nqrust.agent.vmm import sockets
from nqrust.agent.vmm.firecracker import api
from nqrust.agent.vmm.port import Machine
from nqrust.agent.vmm.sockets import pinned
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host, Kind

_LONGEST_ANSWER = 32  # bytes of "OK 4294967295"
_HANDSHAKE = 2.0  # seconds until a connection to the guest is there
LINKS = 8
"""Symbolic links that are followed to the program."""


def program(host: Host, name: str) -> str | None:
    """The path of a program with its links resolved: the jailer names the jail after it."""
    path = host.which(name)
    for _ in range(LINKS):
        found = host.stat(path) if path else None
        if path is None or found is None or found.kind is not Kind.symlink:
            return path
        path = os.path.normpath(os.path.join(os.path.dirname(path), host.readlink(path)))
    return None


def base(directory: str) -> str:
    return f"{directory}/jail"


def root(host: Host, directory: str) -> str:
    """The root of the jail that is there. Raises PathMissing."""
    names = host.listdir(base(directory))
    if not names:
        raise PathMissing(base(directory), "there is no jail")
    return _root(directory, names[0])


def make(host: Host, machine: Machine, firecracker: str) -> None:
    """An empty jail with a place for everything that `mounts` shows in it. No process of the VM may run."""
    host.remove_tree(base(machine.directory), synced=False)
    top, owner = _root(machine.directory, os.path.basename(firecracker)), str(machine.user)
    path = machine.directory
    for part in top.removeprefix(f"{machine.directory}/").split("/"):
        path = f"{path}/{part}"
        host.mkdir(path, mode=0o755, synced=False)
    host.mkdir(f"{top}{os.path.dirname(api.SAVED_STATE)}", mode=0o750, group=owner, synced=False)
    host.mkdir(f"{top}{os.path.dirname(api.VSOCK)}", mode=0o700, owner=owner, group=owner, synced=False)
    for file in (api.LOG, api.METRICS):
        host.write_file(f"{top}{file}", b"", mode=0o600, owner=owner, group=owner, synced=False)
    for _, place in _shown(machine):
        host.write_file(f"{top}{place}", b"", mode=0o600, synced=False)
    for saved, _ in _saved(machine):
        host.set_mode(saved, mode=0o640, owner="root", group=owner)  # the VM reads it, and changes nothing


def mounts(host: Host, machine: Machine) -> tuple[tuple[str, str], ...]:
    """The files of the VM and their places in its jail: without copies."""
    top = root(host, machine.directory)
    return tuple((source, f"{top}{place}") for source, place in _shown(machine))


def socket_exists(host: Host, directory: str) -> bool:
    try:
        return host.exists(f"{root(host, directory)}{api.API_SOCKET}")
    except HostError:
        return False


@contextlib.contextmanager
def socket(host: Host, directory: str) -> Iterator[str]:
    """A path of the API's socket, short enough for connect(2), that leads to nothing else: the VM's user may replace the
    socket by a link to another program's. Raises HostError, OSError."""
    with pinned(f"{root(host, directory)}{api.API_SOCKET}") as path:
        yield path


def connect_guest(host: Host, directory: str, port: int) -> stream_socket:
    """Return a connection to a port of the guest, docs/vsock.md of Firecracker. Raises ConnectionError if nothing listens there,
    or Firecracker, which may be hostile by now, does not answer in time; HostError, OSError."""
    until = time.monotonic() + _HANDSHAKE
    try:
        link = sockets.connected(f"{root(host, directory)}{api.VSOCK}", _HANDSHAKE)
        try:
            _ask_for(link, port, until)
        except BaseException:
            link.close()
            raise
    except TimeoutError as error:
        raise ConnectionAbortedError("Firecracker does not answer in time") from error
    return link


def _ask_for(link: stream_socket, port: int, until: float) -> None:
    def in_time() -> stream_socket:
        link.settimeout(max(until - time.monotonic(), 0.001))  # of all bytes together
        return link

    in_time().sendall(f"CONNECT {port}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        byte = in_time().recv(1)  # what follows the line is the guest's
        if not byte or len(answer) > _LONGEST_ANSWER:
            raise ConnectionResetError("nothing in the guest listens")
        answer += byte
    if not answer.startswith(b"OK "):
        raise ConnectionResetError("nothing in the guest listens")


def accepts(host: Host, directory: str) -> bool:
    """Return whether the API's socket accepts a connection."""
    try:
        with socket(host, directory) as path, sockets.stream(path):
            return True
    except (HostError, OSError):
        return False


def seal(host: Host, directory: str, user: int) -> None:
    """Take the folders that were made for `user`, who makes no more files in them, but for that of the guest's socket: Firecracker
    makes it later. No guest has run yet."""
    top = root(host, directory)
    folders = [f"{directory}/run", top]
    for folder in folders:
        users.seal(host, folder, user)
        below = [f"{folder}/{name}" for name in host.listdir(folder)]
        owned = [path for path in below if (found := host.stat(path)) and found.kind is Kind.directory and found.uid == user]
        folders += [path for path in owned if path != _guest_folder(top)]


def seal_guest(host: Host, directory: str, user: int) -> None:
    """Take the folder of the guest's socket too, after `seal`. Nothing but the socket stays in it: a snapshot that a guest made in
    its VMM runs while it is loaded. Raises HostError."""
    folder, name = _guest_folder(root(host, directory)), os.path.basename(api.VSOCK)
    users.seal(host, folder, user)
    for path in (f"{folder}/{entry}" for entry in host.listdir(folder)):
        found = host.stat(path)
        if found and found.kind is Kind.directory:
            host.remove_tree(path, synced=False)
        elif found and (found.kind is not Kind.other or os.path.basename(path) != name):
            host.remove(path)


def _snapshot_folder(top: str) -> str:
    return f"{top}{os.path.dirname(api.NEW_STATE)}"


def _guest_folder(top: str) -> str:
    return f"{top}{os.path.dirname(api.VSOCK)}"


@contextlib.contextmanager
def place_for_snapshot(host: Host, directory: str, user: int) -> Iterator[None]:
    """A folder in the jail where `user` may make files. All of it goes with the end of the block."""
    place = _snapshot_folder(root(host, directory))
    _drop(host, place, user)
    host.mkdir(place, mode=0o700, owner=str(user), group=str(user), synced=False)
    try:
        yield
    finally:
        _drop(host, place, user)


def _drop(host: Host, place: str, user: int) -> None:
    """Remove a folder that is, or was, of `user`, who makes nothing in it meanwhile."""
    if host.stat(place) is not None:
        users.seal(host, place, user)
        host.remove_tree(place, synced=False)


def open_again(host: Host, directory: str, user: int) -> bool:
    """Whether `user` may make files in the jail: so it stays if an agent is killed during a snapshot, or while one is loaded. It is
    so, too, while a verb works on the VM. Raises HostError."""
    top = root(host, directory)
    own = [host.stat(folder) for folder in (f"{directory}/run", top, _guest_folder(top))]
    return host.exists(_snapshot_folder(top)) or any(found is not None and found.uid == user for found in own)


def seal_again(host: Host, directory: str, user: int) -> None:
    """Take from `user` what a killed agent left. No verb may be at work on the VM. Raises HostError."""
    _drop(host, _snapshot_folder(root(host, directory)), user)
    seal(host, directory, user)
    seal_guest(host, directory, user)


def take_snapshot(host: Host, directory: str, folder: str, user: int, limit: int) -> None:
    """Move what Firecracker wrote into `folder`: two plain files of `user`, each of at most `limit` bytes. They are root's
    then. Raises HostError."""
    for place in (api.NEW_STATE, api.NEW_MEMORY):
        path = f"{root(host, directory)}{place}"
        untrusted.take(path, f"{folder}/{os.path.basename(place)}", owner=user, limit=limit)


def _root(directory: str, name: str) -> str:
    return f"{base(directory)}/{name}/{os.path.basename(directory)}/root"


def _shown(machine: Machine) -> Iterator[tuple[str, str]]:
    """Path on the host, place in the jail."""
    assert machine.kernel_elf is not None, "argv refuses an image without one"
    yield machine.kernel_elf, api.KERNEL
    if machine.initrd:
        yield machine.initrd, api.INITRD
    for number, path in enumerate((machine.disk, *machine.volumes)):
        yield path, api.disk(number)
    yield from _saved(machine)


def _saved(machine: Machine) -> Iterator[tuple[str, str]]:
    if machine.snapshot:
        yield f"{machine.snapshot}/vmstate", api.SAVED_STATE
        yield f"{machine.snapshot}/memory", api.SAVED_MEMORY
