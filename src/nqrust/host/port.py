"""The only access to a machine.

Everything that reads or changes a machine uses `Host`. `LocalHost` is the local machine. `FakeHost` is a machine in memory for
unit tests, with a real one's refusals. One conformance suite runs over both.

Commands are argv lists, run with a scrubbed environment (PATH, HOME, LC_ALL=C.UTF-8 and the proxy variables), closed standard
input, their own process group and a timeout. Paths are absolute strings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from nqrust.host.secret import Secret


@dataclass(frozen=True)
class Command:
    """A program to run.

    `input`: bytes for standard input (closed when None; a Secret is never logged). `env` is added to the scrubbed
    environment; Secret values there are masked in logs. `user` runs it as that user (setgid, initgroups, setuid).
    `ok`: exit codes that count as success. `timeout` in seconds. `cwd`: working directory. `longest`: bytes of standard output,
    and of standard error, above which the program is ended.
    """

    argv: tuple[str, ...]
    input: bytes | Secret | None = None
    env: Mapping[str, str | Secret] = field(default_factory=dict)
    timeout: float = 120.0
    user: str | None = None
    ok: tuple[int, ...] = (0,)
    cwd: str = "/"
    longest: int | None = None


def command(
    *argv: str,
    input: bytes | Secret | None = None,
    env: Mapping[str, str | Secret] | None = None,
    timeout: float = 120.0,
    user: str | None = None,
    ok: tuple[int, ...] = (0,),
    cwd: str = "/",
    longest: int | None = None,
) -> Command:
    """Shorthand: `command("ip", "link", "show")`."""
    return Command(argv, input, env or {}, timeout, user, ok, cwd, longest)


@dataclass(frozen=True)
class Completed:
    """A command that ended with an accepted exit code. Output decoded as UTF-8 with replacement."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float = 0.0


class Kind(str, Enum):
    """Type of the object at a path (without following symlinks)."""

    file = "file"
    directory = "directory"
    symlink = "symlink"
    other = "other"  # device, socket, FIFO


@dataclass(frozen=True)
class Stat:
    """lstat(2) of a path. `mode` is the 12 permission bits; a number without an entry is its own name, as text."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    owner: str
    group: str
    size: int
    mtime_ns: int
    inode: int = 0
    device: int = 0
    allocated: int = 0
    """Bytes that its blocks take, holes left out."""

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """Device, inode, size and mtime (ns), which another file does not share."""
        return self.device, self.inode, self.size, self.mtime_ns


@dataclass(frozen=True)
class User:
    """A passwd(5) entry."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True)
class Group:
    """A group(5) entry; `members` are the supplementary ones listed there."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskUsage:
    """statvfs(3) of the file system that holds a path; bytes."""

    total: int
    available: int
    inodes_available: int
    read_only: bool
    fstype: str = ""
    mount_point: str = ""
    noexec: bool = False


@dataclass(frozen=True)
class Tls:
    """A server that proves `name` with `authority` (PEM). With neither, every server is accepted: send it no secret."""

    authority: str = ""
    name: str = ""


@dataclass(frozen=True)
class Connections:
    """Those of IPv4 that have `address` at one end. With `protocol` (tcp, udp): those to a `port` of this machine that lead to the
    port `leads_to` there."""

    address: str
    protocol: str = ""
    port: int = 0
    leads_to: int = 0


class Host(Protocol):
    """A machine. Every method raises a `HostError` (errors.py), nothing else."""

    # --- programs
    def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
        """Run to the end. `on_line` gets each line of stdout and stderr as it arrives.

        Raises CommandFailed, CommandTimedOut, OutputTooLong, ProgramMissing.
        """
        ...

    def which(self, program: str) -> str | None:
        """Absolute path of a program on the host's PATH, or None."""
        ...

    # --- reading
    def stat(self, path: str) -> Stat | None:
        """lstat; None if nothing is there."""
        ...

    def exists(self, path: str) -> bool: ...

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Content of a file, at most `limit` bytes. Raises PathMissing, PathError."""
        ...

    def read_text(self, path: str) -> str: ...

    def sha256(self, path: str, *, seen: Stat | None = None) -> str:
        """Hex digest of a file's content, read in pieces. `seen`: what `stat` said; PathError (ESTALE) for another file."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Sorted names in a directory. Raises PathMissing."""
        ...

    def glob(self, pattern: str) -> list[str]:
        """Sorted paths that match (`*`, `?`, `[..]`, `**`)."""
        ...

    def readlink(self, path: str) -> str: ...

    def xattrs(self, path: str) -> dict[str, bytes]:
        """Extended attributes (xattr(7)); empty if the file system has none."""
        ...

    def user(self, name: str) -> User | None: ...

    def group(self, name: str) -> Group | None: ...

    def disk_usage(self, path: str) -> DiskUsage:
        """Usage at the nearest existing ancestor of `path`."""
        ...

    # --- changing
    def write_file(
        self,
        path: str,
        data: bytes | Secret | Iterator[bytes],
        *,
        mode: int = 0o644,
        owner: str = "root",
        group: str = "root",
        xattrs: Mapping[str, bytes] | None = None,
        synced: bool = True,
    ) -> None:
        """Replace a file atomically. The parent must exist.

        A temporary file beside it gets its final mode and owner before the content is visible; then fsync, rename(2), fsync of
        the directory. `data` may be an iterator; if it raises, `path` stays unchanged.

        Here and below, `synced` is false for what the caller writes again after a power cut: no fsync.
        """
        ...

    def copy_file(
        self,
        source: str,
        target: str,
        *,
        mode: int,
        owner: str = "root",
        group: str = "root",
        largest: int | None = None,
        keep_free: int = 0,
        seen: Stat | None = None,
    ) -> None:
        """Like write_file, from a file of the host; with reflinks if the file system supports them, holes kept.

        PathError (EFBIG) if the source is longer than `largest` bytes, holes included. NoSpace if fewer than `keep_free` bytes of
        the file system would be left. `seen`: what `stat` said of the source; PathError (ESTALE) if another file is there now, or if
        it changed meanwhile.
        """
        ...

    def edit_file(
        self, path: str, change: Callable[[bytes], bytes | None], *, follow: bool = True, remove_empty: bool = False
    ) -> None:
        """Replace the content of a file by what `change` makes of it. None: leave it. Owner, mode and attributes stay.

        A user who can write in its folder, or in one on the way, cannot have another file read or replaced meanwhile. PathError
        (ELOOP) if it is a link; without `follow`, for one on the way too. PathError (EINVAL) if it is no plain file. `remove_empty`:
        if only white space is left, remove it.
        """
        ...

    def mkdir(self, path: str, *, mode: int = 0o755, owner: str = "root", group: str = "root", synced: bool = True) -> None:
        """Create one level; the parent must exist. An existing directory is an error (PathError)."""
        ...

    def symlink(self, target: str, path: str) -> None:
        """Create or atomically replace the symlink at `path`; anything else there is an error."""
        ...

    def rename(self, source: str, target: str) -> None: ...

    def set_mode(self, path: str, *, mode: int, owner: str, group: str) -> None:
        """chmod and lchown; never follows a symlink."""
        ...

    def remove(self, path: str) -> None:
        """Unlink a file or symlink. A missing one is not an error."""
        ...

    def rmdir(self, path: str) -> None:
        """Remove an empty directory. Raises PathError if it is not empty."""
        ...

    def remove_tree(self, path: str, *, synced: bool = True) -> None:
        """Remove a directory tree without following symlinks. A missing one is not an error.

        It never crosses a mount point: PathError names it, and nothing below the mount is touched.
        """
        ...

    def set_parameter(self, path: str, value: str) -> None:
        """Write a file below /proc/sys in place. PathMissing if this kernel does not have it."""
        ...

    def locked(self, path: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the lock of an existing file, flock(2), exclusively. Go on without if there is none (also for ""), or after `timeout`
        seconds."""
        ...

    # --- time and identity
    def now(self) -> float:
        """Seconds since the epoch (the machine's wall clock)."""
        ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def euid(self) -> int: ...

    def kill(self, pid: int, signal: int) -> bool:
        """Send a signal. Returns False if there is no such process."""
        ...

    def kill_all_of(self, user: int, other: int) -> None:
        """Send SIGKILL to every process of `user` in one step. `other`: a user that has no process. It needs root."""
        ...

    def connect(self, address: str, port: int, timeout: float = 1.0) -> bool:
        """Return whether a TCP connection is accepted."""
        ...

    def end_connections(self, wanted: Collection[Connections]) -> int:
        """Have the kernel forget these connections, and return how many there were. Their next packet begins a new one. It needs
        root."""
        ...

    def leave_no_work(self, link: str) -> tuple[str, ...]:
        """Have the kernel finish packets before it hands them to this link: checksums, and the division of large ones. Return the
        features that were on; ethtool(8) has their names. PathError if the link cannot do without one. It needs root."""
        ...

    def http_get(
        self,
        url: str,
        *,
        headers: Mapping[str, str | Secret] | None = None,
        timeout: float = 5.0,
        tls: Tls | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body (first MiB) of a GET, without redirects or proxies. `tls`: how an https server proves itself;
        None: with a certificate that this machine trusts, for the name in `url`.

        Raises HostError if no answer arrives.
        """
        ...

    def http_send(
        self, method: str, url: str, *, headers: Mapping[str, str | Secret] | None = None, timeout: float = 5.0
    ) -> tuple[int, bytes]:
        """The same for POST or DELETE, without a body."""
        ...

    # --- what only the machine itself can answer
    def kvm_api_version(self) -> int:
        """Open /dev/kvm and ask KVM_GET_API_VERSION (Linux, Documentation/virt/kvm/api.rst; 12 since 2.6.22).
        Raises PathMissing, PathError."""
        ...

    def environment(self) -> Mapping[str, str]:
        """Return this program's own environment. Commands get only the scrubbed part of it."""
        ...
