"""The local machine. The only module that starts programs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from nqrust.host import accounts, durable, ending, mounts, reach, same_file, tree
from nqrust.host.children import CHILDREN, has_ended, signal_group
from nqrust.host.conntrack import Conntrack
from nqrust.host.edits import Edits
from nqrust.host.environment import PATH, scrubbed
from nqrust.host.errors import (
    CommandFailed,
    CommandStopped,
    CommandTimedOut,
    HostError,
    PathMissing,
    ProgramMissing,
    translated,
    translating,
)
from nqrust.host.flocks import Flocks
from nqrust.host.offloads import Offloads
from nqrust.host.output import Lines, Mask
from nqrust.host.parameters import Parameters
from nqrust.host.port import Command, Completed, DiskUsage, Group, Kind, Stat, Tls, User
from nqrust.host.secret import Secret

Observer = Callable[[Command, int, float], None]
"""Called after each command with the command, its exit code (negative: ended by that signal) and seconds."""

KVM_GET_API_VERSION = 0xAE00  # linux/kvm.h: _IO(KVMIO, 0x00)
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_TAIL = 0.3  # seconds to read from a daemon that kept the pipes of an ended program
_KINDS = {stat.S_IFREG: Kind.file, stat.S_IFDIR: Kind.directory, stat.S_IFLNK: Kind.symlink}


class LocalHost(Flocks, Conntrack, Edits, Offloads, Parameters):
    """`nqrust.host.port.Host` for this machine. Threads may share it. Once `stop` is set, running programs end: CommandStopped."""

    def __init__(self, observe: Observer | None = None, stop: threading.Event | None = None) -> None:
        self._observe = observe
        self._stop = stop or threading.Event()
        self._names = accounts.Names()

    # --- programs
    def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
        mask = Mask(cmd)
        started = time.monotonic()
        process = self._start(cmd)
        CHILDREN.started(process.pid)
        stdout, stderr = Lines(cmd, mask, on_line), Lines(cmd, mask, on_line)
        data = cmd.input.reveal().encode() if isinstance(cmd.input, Secret) else cmd.input
        try:
            in_time = _converse(process, data, stdout, stderr, started + cmd.timeout, self._stop)
            if not in_time:
                _end(process, stdout, stderr)
        except BaseException:  # a signal handler or `on_line` raised: leave no program running
            _end(process, stdout, stderr)
            raise
        finally:
            CHILDREN.ended(process.pid)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        stdout.close()
        stderr.close()
        seconds, code = time.monotonic() - started, process.returncode
        if self._observe is not None:
            self._observe(cmd, code, seconds)
        if not in_time:
            raise CommandStopped(cmd.argv) if self._stop.is_set() else CommandTimedOut(cmd.argv, cmd.timeout)
        if code not in cmd.ok:
            raise CommandFailed(cmd.argv, code, mask(stderr.text), mask(stdout.text))
        return Completed(cmd.argv, code, stdout.text, stderr.text, seconds)

    def _start(self, cmd: Command) -> subprocess.Popen[bytes]:
        if not cmd.argv:
            raise HostError("there is no program to run")
        program = self.which(cmd.argv[0])
        if program is None:
            raise ProgramMissing(cmd.argv[0])
        account = accounts.current_user() if cmd.user is None else accounts.user(cmd.user)
        if account is None:
            raise HostError(f"there is no user {cmd.user} on this host")
        environment = scrubbed(os.environ, home=account.home, user=account.name)
        for name, value in cmd.env.items():
            environment[name] = value.reveal() if isinstance(value, Secret) else value
        switch = cmd.user is not None and (account.uid != os.geteuid() or account.gid != os.getegid())
        try:
            return subprocess.Popen(
                [program, *cmd.argv[1:]],
                stdin=subprocess.DEVNULL if cmd.input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cmd.cwd,
                env=environment,
                start_new_session=True,
                umask=0o022,
                user=account.uid if switch else None,
                group=account.gid if switch else None,
                extra_groups=os.getgrouplist(account.name, account.gid) if switch else None,
            )
        except FileNotFoundError as error:
            if not os.path.isdir(cmd.cwd):
                raise PathMissing(cmd.cwd, "there is no such directory", errno.ENOENT) from error
            # The file exists but its interpreter does not.
            raise ProgramMissing(cmd.argv[0]) from error
        except (OSError, ValueError) as error:
            raise HostError(f"{cmd.argv[0]} could not be started: {error}") from error

    def which(self, program: str) -> str | None:
        candidates = [program] if "/" in program else [f"{folder}/{program}" for folder in PATH.split(":")]
        for candidate in candidates:
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
        return None

    # --- reading
    def stat(self, path: str) -> Stat | None:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise translated(error, path) from error
        return Stat(
            kind=_KINDS.get(stat.S_IFMT(found.st_mode), Kind.other),
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            owner=self._names.of_user(found.st_uid),
            group=self._names.of_group(found.st_gid),
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            inode=found.st_ino,
            device=found.st_dev,
            allocated=found.st_blocks * 512,
        )

    def exists(self, path: str) -> bool:
        return self.stat(path) is not None

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        with translating(path), open(same_file.opened(path), "rb", buffering=0 if limit is None else -1) as file:
            return file.read() if limit is None else file.read(limit)

    def read_text(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "replace")

    def sha256(self, path: str, *, seen: Stat | None = None) -> str:
        with translating(path):
            return same_file.sha256(path, seen.identity if seen else None)

    def listdir(self, path: str) -> list[str]:
        with translating(path):
            return sorted(os.listdir(path))

    def glob(self, pattern: str) -> list[str]:
        with translating(pattern):
            return sorted(glob.glob(pattern, recursive=True))

    def readlink(self, path: str) -> str:
        with translating(path):
            return os.readlink(path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        try:
            return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
                return {}
            raise translated(error, path) from error

    def user(self, name: str) -> User | None:
        return accounts.user(name)

    def group(self, name: str) -> Group | None:
        return accounts.group(name)

    def disk_usage(self, path: str) -> DiskUsage:
        with translating(path):
            canonical = os.path.realpath(path)
            while not os.path.lexists(canonical):
                canonical = os.path.dirname(canonical)
            found = os.statvfs(canonical)
            with open(mounts.MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
                mount = mounts.holding(mounts.parse_mountinfo(file.read()), canonical)
        return DiskUsage(
            total=found.f_blocks * found.f_frsize,
            available=found.f_bavail * found.f_frsize,
            inodes_available=found.f_favail,
            read_only=bool(found.f_flag & os.ST_RDONLY),
            fstype=mount.fstype if mount else "",
            mount_point=mount.mount_point if mount else "",
            noexec=bool(found.f_flag & os.ST_NOEXEC),
        )

    # --- changing
    def write_file(
        self, path: str, data: bytes | Secret | Iterator[bytes], *, mode: int = 0o644, owner: str = "root", group: str = "root",
        xattrs: Mapping[str, bytes] | None = None, synced: bool = True,
    ) -> None:  # fmt: skip
        content = data.reveal().encode() if isinstance(data, Secret) else data
        uid, gid = accounts.uid(owner, path), accounts.gid(group, path)
        with translating(path):
            durable.write_file(path, content, mode=mode, uid=uid, gid=gid, xattrs=xattrs or {}, synced=synced)

    def copy_file(
        self, source: str, target: str, *, mode: int, owner: str = "root", group: str = "root",
        largest: int | None = None, keep_free: int = 0, seen: Stat | None = None,
    ) -> None:  # fmt: skip
        uid, gid = accounts.uid(owner, target), accounts.gid(group, target)
        with translating(target):
            durable.copy_file(
                source, target, mode=mode, uid=uid, gid=gid, largest=largest, keep_free=keep_free,
                seen=seen.identity if seen else None,
            )  # fmt: skip

    def mkdir(self, path: str, *, mode: int = 0o755, owner: str = "root", group: str = "root", synced: bool = True) -> None:
        uid, gid = accounts.uid(owner, path), accounts.gid(group, path)
        with translating(path):
            durable.make_directory(path, mode=mode, uid=uid, gid=gid, synced=synced)

    def symlink(self, target: str, path: str) -> None:
        with translating(path):
            durable.make_symlink(target, path)

    def rename(self, source: str, target: str) -> None:
        with translating(source):
            durable.rename(source, target)

    def set_mode(self, path: str, *, mode: int, owner: str, group: str) -> None:
        uid, gid = accounts.uid(owner, path), accounts.gid(group, path)
        with translating(path):
            durable.set_mode(path, mode=mode, uid=uid, gid=gid)

    def remove(self, path: str) -> None:
        with translating(path):
            durable.remove(path)

    def rmdir(self, path: str) -> None:
        with translating(path):
            durable.remove_directory(path)

    def remove_tree(self, path: str, *, synced: bool = True) -> None:
        with translating(path):
            tree.remove_tree(path, synced=synced)

    # --- time and identity
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def euid(self) -> int:
        return os.geteuid()

    def kill(self, pid: int, signal: int) -> bool:
        if pid <= 0:  # kill(2) would address whole process groups
            raise HostError(f"{pid} is not a process id")
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError) as error:
            raise HostError(f"signal {signal} could not be sent to process {pid}: {error}") from error
        return True

    def kill_all_of(self, user: int, other: int) -> None:
        try:
            ending.kill_all_of(user, other)
        except OSError as error:
            raise HostError(f"the processes of user {user} could not be ended: {error.strerror}") from error

    def connect(self, address: str, port: int, timeout: float = 1.0) -> bool:
        return reach.accepts(address, port, timeout)

    def http_get(
        self, url: str, *, headers: Mapping[str, str | Secret] | None = None, timeout: float = 5.0, tls: Tls | None = None
    ) -> tuple[int, bytes]:
        return reach.ask("GET", url, headers or {}, timeout, (tls.authority, tls.name) if tls else None)

    def http_send(
        self, method: str, url: str, *, headers: Mapping[str, str | Secret] | None = None, timeout: float = 5.0
    ) -> tuple[int, bytes]:
        return reach.ask(method, url, headers or {}, timeout)

    # --- what only the machine itself can answer
    def kvm_api_version(self) -> int:
        with translating("/dev/kvm"):
            fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
            try:
                return fcntl.ioctl(fd, KVM_GET_API_VERSION, 0)
            finally:
                os.close(fd)

    def environment(self) -> Mapping[str, str]:
        return dict(os.environ)


def _converse(
    process: subprocess.Popen[bytes], data: bytes | None, stdout: Lines, stderr: Lines, deadline: float, stop: threading.Event
) -> bool:
    """Feed standard input and drain both pipes until the program has ended. Returns False if the deadline or `stop` came first.

    A program may leave a daemon that keeps the pipes open (screen, pg_ctlcluster). The call does not wait for it.
    """
    with selectors.DefaultSelector() as waiting:
        for pipe, lines in ((process.stdout, stdout), (process.stderr, stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            waiting.register(pipe.fileno(), selectors.EVENT_READ, lines)
        left = memoryview(data or b"")
        if process.stdin is not None:
            if left:
                os.set_blocking(process.stdin.fileno(), False)
                waiting.register(process.stdin.fileno(), selectors.EVENT_WRITE)
            else:
                process.stdin.close()
        ended: float | None = None
        pause = 0.001
        while True:
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if ended is None and stop.is_set():
                return False
            if not waiting.get_map():
                if ended is not None:
                    return True
                if now >= deadline:
                    return False
                # A running program closed both pipes.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(1.0, deadline - now))
                continue
            if ended is not None and now - ended > _TAIL:
                return True
            if ended is None and now >= deadline:
                return False
            ready = waiting.select(min(pause, 0.05, max(0.0, deadline - now)) if ended is None else 0.02)
            pause = 0.001 if ready else pause * 2
            for key, _ in ready:
                if isinstance(key.data, Lines):
                    piece = os.read(key.fd, 1 << 16)
                    if piece:
                        key.data.feed(piece)
                    else:
                        waiting.unregister(key.fd)
                    continue
                try:
                    left = left[os.write(key.fd, left[: 1 << 16]) :]
                except BrokenPipeError:
                    left = left[:0]
                if not left and process.stdin is not None:
                    waiting.unregister(key.fd)
                    process.stdin.close()


def _end(process: subprocess.Popen[bytes], stdout: Lines, stderr: Lines) -> None:
    """End the whole process group: SIGTERM, a grace period, SIGKILL.

    The leader is reaped last, so that no other group can get its number meanwhile.
    """
    if process.returncode is not None:
        return
    stdout.on_line = stderr.on_line = None
    signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline and not has_ended(process.pid):
        for pipe, lines in ((process.stdout, stdout), (process.stderr, stderr)):
            # A program may still write more than a pipe holds before it ends.
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    lines.feed(os.read(pipe.fileno(), 1 << 16))
        time.sleep(0.01)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()
