"""A machine in memory. It refuses what a real one would refuse. A program that no test expects ends the test, uncatchably.

host = FakeHost.debian12()
host.put("/etc/hosts", "127.0.0.1 localhost\\n")
host.on("systemctl", "is-active", "ssh", answer="active\\n")
host.on("useradd", prefix=True, changes=True, answer=lambda host, cmd: host.add_user(cmd.argv[-1], 998))
host.fail_at(3, NoSpace("/etc/x", "the file system is full"))
"""

from __future__ import annotations

import copy
import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.files import Node, failure, refuse_another
from tests.fakes.machine import FakeMachine, UnexpectedCall

from nqrust.host.environment import PATH
from nqrust.host.errors import CommandFailed, HostError, ProgramMissing, translating
from nqrust.host.port import Command, Completed, DiskUsage, Group, Kind, Stat, User
from nqrust.host.secret import Secret

__all__ = ["FakeHost", "UnexpectedCall"]


@dataclass(frozen=True)
class _Program:
    argv: tuple[str, ...]
    prefix: bool
    changes: bool
    answer: Any

    def fits(self, argv: tuple[str, ...]) -> bool:
        return argv == self.argv or (self.prefix and argv[: len(self.argv)] == self.argv)


class FakeHost(FakeMachine):
    """`nqrust.host.port.Host`, in memory.

    For tests: `put*`, `on`, `fail_at`, `mutations` (what was changed, in order), `commands` (what was run), `memory`
    (anything that answers of commands want to remember; part of `state()`), `state()`, `copy()`.
    """

    def __init__(self, *, euid: int = 0) -> None:
        super().__init__()
        self.commands: list[Command] = []
        self.mutations: list[tuple[str, ...]] = []
        self.processes: set[int] = {1}
        self.signals: list[tuple[int, int]] = []
        self.listening: set[tuple[str, int]] = set()
        self.pages: dict[str, Any] = {}  # URL -> (status, body) or callable(headers)
        self.kvm_version: int | BaseException = 12
        self.variables: dict[str, str] = {}
        self._euid = euid
        self._programs: list[_Program] = []
        self._missing: set[str] = set()
        self._installed: dict[str, str] = {}
        self._failure: tuple[int, BaseException, bool] | None = None

    @classmethod
    def debian12(cls) -> FakeHost:
        """A small Debian 12 with systemd: accounts, the usual folders, os-release."""
        host = cls()
        host.furnish_debian12()
        return host

    def install(self, program: str, path: str | None = None) -> None:
        """`which` finds it. Programs with an answer are found anyway."""
        self._missing.discard(program)
        self._installed[program] = path or f"/usr/bin/{program}"

    def uninstall(self, program: str) -> None:
        """From now on the program is missing, whatever answers there are."""
        self._installed.pop(program, None)
        self._missing.add(program)

    def on(self, *argv: str, answer: object = "", prefix: bool = False, changes: bool = False) -> None:
        """What a program answers: its standard output, a Completed, an exception to raise, or a callable(host, cmd)
        that gives one of these (None: no output). `prefix`: further arguments may follow. `changes`: counts as a
        mutation. The latest that fits is taken."""
        self._programs.append(_Program(argv, prefix, changes, answer))

    def fail_at(self, number: int, error: BaseException, *, after: bool = False) -> None:
        """The `number`-th change from now (1: the next) raises `error` instead of being made; `after`: once made."""
        self._failure = (len(self.mutations) + number, error, after)

    def copy(self) -> FakeHost:
        """Another machine in the same state, with the same answers, its own record and no failure to come."""
        other = copy.copy(self)
        for name in ("tree", "users", "groups", "memory", "processes", "listening", "usages", "variables"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        other.commands, other.mutations, other.signals, other._failure = [], [], [], None
        other.pages, other._programs = dict(self.pages), list(self._programs)
        other._missing, other._installed = set(self._missing), dict(self._installed)
        return other

    # --- programs
    def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
        if not cmd.argv:
            raise HostError("there is no program to run")
        if cmd.argv[0] in self._missing:
            raise ProgramMissing(cmd.argv[0])
        program = next((program for program in reversed(self._programs) if program.fits(cmd.argv)), None)
        if program is None:
            raise UnexpectedCall(f"no test foresaw: {' '.join(cmd.argv)}")
        if cmd.user is not None and cmd.user not in self.users:
            raise HostError(f"there is no user {cmd.user} on this host")
        self.commands.append(cmd)
        if program.changes:
            self._about_to("run", *cmd.argv)
        result = self._answer(program.answer, cmd)
        if program.changes:
            self._have_done()
        if on_line is not None:
            for line in [*result.stdout.splitlines(), *result.stderr.splitlines()]:
                on_line(line)
        if result.code not in cmd.ok:
            raise CommandFailed(cmd.argv, result.code, result.stderr, result.stdout)
        return result

    def _answer(self, answer: object, cmd: Command) -> Completed:
        if callable(answer) and not isinstance(answer, type):
            answer = answer(self, cmd)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Completed):
            return replace(answer, argv=cmd.argv)
        return Completed(cmd.argv, 0, answer if isinstance(answer, str) else "", "")

    def which(self, program: str) -> str | None:
        if program in self._missing:
            return None
        candidates = [program] if "/" in program else [f"{folder}/{program}" for folder in PATH.split(":")]
        for candidate in candidates:
            try:
                node = self.tree.lookup(candidate)
            except OSError:
                continue
            if node.kind is Kind.file and node.mode & 0o111:
                return candidate
        if program in self._installed:
            return self._installed[program]
        if any(known.argv[0] == program for known in self._programs):
            return program if "/" in program else f"/usr/bin/{program}"
        return None

    # --- reading
    def stat(self, path: str) -> Stat | None:
        self._absolute(path)
        with translating(path):
            node = self.tree.find(path)
        if node is None:
            return None
        size = len(node.data) if node.kind is Kind.file else len(node.target)
        owner = next((user.name for user in self.users.values() if user.uid == node.uid), str(node.uid))
        group = next((group.name for group in self.groups.values() if group.gid == node.gid), str(node.gid))
        return Stat(node.kind, node.mode, node.uid, node.gid, owner, group, size, node.mtime_ns, node.inode, 1, size)

    def exists(self, path: str) -> bool:
        return self.stat(path) is not None

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        self._absolute(path)
        with translating(path):
            node = self.tree.lookup(path)
            if node.kind is Kind.directory:
                raise failure(errno.EISDIR, path)
        return node.data if limit is None else node.data[:limit]

    def read_text(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "replace")

    def sha256(self, path: str, *, seen: Stat | None = None) -> str:
        refuse_another(path, self.stat(path), seen)
        return hashlib.sha256(self.read_bytes(path)).hexdigest()

    def listdir(self, path: str) -> list[str]:
        self._absolute(path)
        with translating(path):
            node = self.tree.lookup(path)
            if node.kind is not Kind.directory:
                raise failure(errno.ENOTDIR, path)
        return sorted(node.children)

    def glob(self, pattern: str) -> list[str]:
        self._absolute(pattern)
        return self.tree.glob(pattern)

    def readlink(self, path: str) -> str:
        self._absolute(path)
        with translating(path):
            node = self.tree.lookup(path, follow=False)
            if node.kind is not Kind.symlink:
                raise failure(errno.EINVAL, path)
        return node.target

    def xattrs(self, path: str) -> dict[str, bytes]:
        self._absolute(path)
        with translating(path):
            return dict(self.tree.lookup(path, follow=False).xattrs)

    def user(self, name: str) -> User | None:
        return self.users.get(name)

    def group(self, name: str) -> Group | None:
        return self.groups.get(name)

    def disk_usage(self, path: str) -> DiskUsage:
        self._absolute(path)
        fitting = [point for point in self.usages if path == point or path.startswith(point.rstrip("/") + "/")]
        return self.usages[max(fitting, key=len)] if fitting else self.usage

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
        content = data.reveal().encode() if isinstance(data, Secret) else data if isinstance(data, bytes) else b"".join(data)
        self._put_content("write_file", path, content, mode, owner, group, dict(xattrs or {}))

    def copy_file(self, source: str, target: str, *, mode: int, seen: Stat | None = None, **o: Any) -> None:
        refuse_another(source, self.stat(source), seen)
        with translating(source):
            node = self.tree.lookup(source)
            if node.kind is not Kind.file or len(node.data) > (o.get("largest") or len(node.data)):
                raise failure(errno.EFBIG if node.kind is Kind.file else errno.EINVAL, source)
        self._put_content("copy_file", target, node.data, mode, o.get("owner", "root"), o.get("group", "root"), {})

    def mkdir(self, path: str, *, mode: int = 0o755, owner: str = "root", group: str = "root", synced: bool = True) -> None:
        self._absolute(path)
        ids = self._ids(path, owner, group)
        with translating(path):
            folder, name = self.tree.parent(path)
            if name in folder.children:
                raise failure(errno.EEXIST, path)
        self._about_to("mkdir", path)
        self._place(path, Node(Kind.directory, mode, *ids))
        self._have_done()

    def symlink(self, target: str, path: str) -> None:
        self._absolute(path)
        with translating(path):
            folder, name = self.tree.parent(path)
            if name in folder.children and folder.children[name].kind is not Kind.symlink:
                raise failure(errno.EEXIST, path)
        self._about_to("symlink", path)
        self._place(path, Node(Kind.symlink, 0o777, target=target))
        self._have_done()

    def rename(self, source: str, target: str) -> None:
        self._absolute(source)
        self._absolute(target)
        with translating(source):
            self.tree.lookup(source, follow=False)
            self._about_to("rename", source, target)
            self.tree.rename(source, target)
        self._have_done()

    def set_mode(self, path: str, *, mode: int, owner: str, group: str) -> None:
        self._absolute(path)
        ids = self._ids(path, owner, group)
        with translating(path):
            node = self.tree.lookup(path, follow=False)
        self._about_to("set_mode", path)
        node.uid, node.gid = ids
        if node.kind is not Kind.symlink:
            node.mode = mode
        self._have_done()

    def remove(self, path: str) -> None:
        self._absolute(path)
        with translating(path):
            node = self.tree.find(path)
            if node is None:
                return
            if node.kind is Kind.directory:
                raise failure(errno.EISDIR, path)
            self._about_to("remove", path)
            self.tree.detach(path)
        self._have_done()

    def rmdir(self, path: str) -> None:
        self._absolute(path)
        with translating(path):
            node = self.tree.lookup(path, follow=False)
            if node.kind is not Kind.directory:
                raise failure(errno.ENOTDIR, path)
            if node.mounted:
                raise failure(errno.EBUSY, path)
            if node.children:
                raise failure(errno.ENOTEMPTY, path)
            self._about_to("rmdir", path)
            self.tree.detach(path)
        self._have_done()

    def remove_tree(self, path: str, *, synced: bool = True) -> None:
        self._absolute(path)
        with translating(path):
            node = self.tree.find(path)
            if node is None:
                return
            if node.kind is not Kind.directory:
                raise failure(errno.ENOTDIR, path)
            mounted = self.tree.mounts_below(node, path)
            if mounted:
                raise failure(errno.EBUSY, mounted[0])
            self._about_to("remove_tree", path)
            self.tree.detach(path)
        self._have_done()

    # --- time and identity
    def now(self) -> float:
        return self.clock

    def monotonic(self) -> float:
        return self.uptime

    def sleep(self, seconds: float) -> None:
        self.clock += max(0.0, seconds)
        self.uptime += max(0.0, seconds)

    def euid(self) -> int:
        return self._euid

    def kill(self, pid: int, signal: int) -> bool:
        if pid <= 0:
            raise HostError(f"{pid} is not a process id")
        if pid not in self.processes:
            return False
        self.signals.append((pid, signal))
        if signal in (9, 15):
            self.processes.discard(pid)
        return True

    def connect(self, address: str, port: int, timeout: float = 1.0) -> bool:
        return (address, port) in self.listening or ("0.0.0.0", port) in self.listening

    def http_get(self, url: str, *, headers: Mapping[str, str | Secret] | None = None, **_: Any) -> tuple[int, bytes]:
        return self._page(url, url, headers)

    def http_send(
        self, method: str, url: str, *, headers: Mapping[str, str | Secret] | None = None, timeout: float = 5.0
    ) -> tuple[int, bytes]:
        return self._page(f"{method} {url}", url, headers)

    def _page(self, key: str, url: str, headers: Mapping[str, str | Secret] | None) -> tuple[int, bytes]:
        page = self.pages.get(key)
        page = page(dict(headers or {})) if callable(page) else page
        if page is None:
            raise HostError(f"no answer from {url}: connection refused")
        status, body = page
        return int(status), body if isinstance(body, bytes) else str(body).encode()

    # --- what only the machine itself can answer
    def kvm_api_version(self) -> int:
        if isinstance(self.kvm_version, BaseException):
            raise self.kvm_version
        with translating("/dev/kvm"):
            self.tree.lookup("/dev/kvm")
        return self.kvm_version

    def environment(self) -> Mapping[str, str]:
        return dict(self.variables)

    # --- how it is done
    def _put_content(
        self, verb: str, path: str, data: bytes, mode: int, owner: str, group: str, xattrs: dict[str, bytes]
    ) -> None:
        self._absolute(path)
        ids = self._ids(path, owner, group)
        with translating(path):
            folder, name = self.tree.parent(path)
            if name in folder.children and folder.children[name].kind is Kind.directory:
                raise failure(errno.EISDIR, path)
        self._about_to(verb, path)
        self._place(path, Node(Kind.file, mode, *ids, data=data, xattrs=xattrs))
        self._have_done()

    def _about_to(self, *change: str) -> None:
        self.mutations.append(change)
        if self._failure is not None and len(self.mutations) == self._failure[0] and not self._failure[2]:
            self.mutations.pop()
            error, self._failure = self._failure[1], None
            raise error

    def _have_done(self) -> None:
        if self._failure is not None and len(self.mutations) >= self._failure[0]:
            error, self._failure = self._failure[1], None
            raise error
