"""The matter of a machine in memory: files, accounts, and what tests put there before they begin."""

from __future__ import annotations

import contextlib
import copy
import errno
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.fakes.files import Node, Tree, failure, walk

from nqrust.host.errors import PathError, translating
from nqrust.host.port import Connections, DiskUsage, Group, Kind, User


class UnexpectedCall(BaseException):
    """The code under test asked for something that the test did not foresee. Not an Exception: nothing catches it."""


class FakeMachine:
    """State and its making; what the port does with it is FakeHost's."""

    remove: Callable[[str], None]
    write_file: Callable[..., None]

    def __init__(self) -> None:
        self.tree = Tree()
        self.users: dict[str, User] = {"root": User("root", 0, 0, "/root", "/bin/bash")}
        self.groups: dict[str, Group] = {"root": Group("root", 0)}
        self.memory: dict[str, Any] = {}
        self.clock = 1_700_000_000.0
        self.uptime = 1000.0
        self.usage = DiskUsage(100 << 30, 80 << 30, 5_000_000, False, "ext4", "/")
        self.usages: dict[str, DiskUsage] = {}  # mount point -> usage
        self.locks: list[str] = []
        self.ended: list[Connections] = []
        self.work: dict[str, tuple[str, ...]] = {}
        self._inode = 10

    def put(
        self,
        path: str,
        data: str | bytes = b"",
        *,
        mode: int = 0o644,
        owner: str = "root",
        group: str = "root",
        xattrs: Mapping[str, bytes] | None = None,
    ) -> None:
        """A file as it was before the test began, with its folders. Not counted as a change."""
        content = data.encode() if isinstance(data, str) else data
        self._place(path, Node(Kind.file, mode, *self._ids(path, owner, group), data=content, xattrs=dict(xattrs or {})))

    def put_directory(self, path: str, *, mode: int = 0o755, owner: str = "root", group: str = "root") -> None:
        if self.tree.find(path) is None:
            self._place(path, Node(Kind.directory, mode, *self._ids(path, owner, group)))

    def put_symlink(self, target: str, path: str) -> None:
        self._place(path, Node(Kind.symlink, 0o777, target=target))

    def put_device(self, path: str, *, mode: int = 0o660, owner: str = "root", group: str = "root") -> None:
        self._place(path, Node(Kind.other, mode, *self._ids(path, owner, group)))

    def mount(self, path: str, usage: DiskUsage | None = None) -> None:
        """Something else is mounted at this directory from now on."""
        self.tree.lookup(path).mounted = True
        if usage is not None:
            self.usages[path] = replace(usage, mount_point=path)

    def add_user(self, name: str, uid: int, group: str = "", *, home: str = "/", shell: str = "/usr/sbin/nologin") -> None:
        """With the group (made when missing; by default of the same name and number)."""
        group = group or name
        if group not in self.groups:
            self.add_group(group, uid)
        self.users[name] = User(name, uid, self.groups[group].gid, home, shell)

    def add_group(self, name: str, gid: int, members: tuple[str, ...] = ()) -> None:
        self.groups[name] = Group(name, gid, members)

    def state(self, *, ignore: tuple[str, ...] = ()) -> dict[str, Any]:
        """All that can be compared with ==: files without times, accounts, `memory`. `ignore`: paths left out with
        all below them."""
        files = {
            path: node.described()
            for path, node in walk(self.tree.root, "")
            if not any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in ignore)
        }
        return copy.deepcopy({"files": files, "users": self.users, "groups": self.groups, "memory": self.memory})

    def furnish_debian12(self) -> None:
        """A small Debian 12 with systemd: accounts, the usual folders, os-release."""
        for path in (
            "/root",
            "/home",
            "/opt",
            "/srv",
            "/mnt",
            "/media",
            "/boot",
            "/proc/1",
            "/proc/self",
            "/sys",
            "/dev",
            "/run/systemd/system",
            "/run/lock",
            "/usr/bin",
            "/usr/sbin",
            "/usr/lib/systemd/system",
            "/usr/local/bin",
            "/usr/local/sbin",
            "/usr/share",
            "/var/lib/dpkg",
            "/var/lib/systemd",
            "/var/log",
            "/var/cache",
            "/etc/systemd/system",
            "/etc/sudoers.d",
            "/etc/sysctl.d",
            "/etc/modules-load.d",
            "/etc/udev/rules.d",
            "/etc/default",
            "/etc/apt",
            "/etc/network",
        ):
            self.put_directory(path)
        self.put_directory("/tmp", mode=0o1777)
        for path, target in (("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/var/run", "/run")):
            self.put_symlink(target, path)
        self.tree.lookup("/root").mode = 0o700
        self.put(
            "/etc/os-release",
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n'
            'VERSION_ID="12"\nVERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n',
        )
        self.put("/etc/hostname", "fake\n")
        self.put("/proc/sys/kernel/hostname", "fake\n")
        self.put("/proc/sys/kernel/osrelease", "6.1.0-28-amd64\n")
        self.put("/proc/sys/kernel/arch", "x86_64\n")
        self.put("/proc/1/comm", "systemd\n")
        self.put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.add_user("nobody", 65534, "nogroup", home="/nonexistent")
        for name, gid in (("adm", 4), ("sudo", 27), ("systemd-journal", 101)):
            self.add_group(name, gid)
        self.put("/usr/sbin/nologin", "", mode=0o755)
        self.put("/bin/sh", "", mode=0o755)

    def _place(self, path: str, node: Node) -> None:
        self._absolute(path)
        self._inode += 1
        node.inode = self._inode
        node.mtime_ns = int(self.clock) * 1_000_000_000 + self._inode
        folder = path.rstrip("/").rpartition("/")[0]
        if folder and self.tree.find(folder) is None:
            self._place(folder, Node(Kind.directory, 0o755))
        with translating(path):
            self.tree.attach(path, node)

    def _ids(self, path: str, owner: str, group: str) -> tuple[int, int]:
        if owner not in self.users and not owner.isdecimal():
            raise PathError(path, f"there is no user {owner} on this host to own it", errno.EINVAL)
        if group not in self.groups and not group.isdecimal():
            raise PathError(path, f"there is no group {group} on this host to own it", errno.EINVAL)
        return (
            self.users[owner].uid if owner in self.users else int(owner),
            self.groups[group].gid if group in self.groups else int(group),
        )

    @staticmethod
    def _absolute(path: str) -> None:
        if not path.startswith("/"):
            raise UnexpectedCall(f"the Host port takes absolute paths, not {path!r}")

    def edit_file(
        self, path: str, change: Callable[[bytes], bytes | None], *, follow: bool = True, remove_empty: bool = False
    ) -> None:
        self._absolute(path)
        with translating(path):
            folder = path.rpartition("/")[0]
            node = self.tree.lookup(path, follow=False)
            if node.kind is Kind.symlink or (not follow and self.tree.canonical(folder) != folder):
                raise failure(errno.ELOOP, path)
            if node.kind is not Kind.file:
                raise failure(errno.EINVAL, path)
        after = change(node.data)
        if after is not None and remove_empty and not after.strip():
            self.remove(path)
        elif after is not None:
            self.write_file(
                path, after, mode=node.mode & 0o777, owner=str(node.uid), group=str(node.gid), xattrs=dict(node.xattrs)
            )

    def set_parameter(self, path: str, value: str) -> None:
        self._absolute(path)
        with translating(path):
            self.tree.lookup(path).data = f"{value}\n".encode()

    @contextlib.contextmanager
    def locked(self, path: str, timeout: float) -> Iterator[None]:
        """Nobody else takes a lock here. `locks`: the paths, in order."""
        if path:
            self._absolute(path)
            self.locks.append(path)
        yield

    def kill_all_of(self, user: int, other: int) -> None:
        """Nothing: its processes have no users."""

    def end_connections(self, wanted: Collection[Connections]) -> int:
        """There are none here. `ended`: what was asked for, in order."""
        self.ended += wanted
        return 0

    def leave_no_work(self, link: str) -> tuple[str, ...]:
        """`work`: link -> what it does, until it is asked here."""
        with translating(f"/sys/class/net/{link}"):
            if not 0 < len(link) < 16:
                raise ValueError(f"{link!r} is no name of a link")
            self.tree.lookup(f"/sys/class/net/{link}")
        return self.work.pop(link, ())
