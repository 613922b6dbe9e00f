"""Doing things inside a test host: commands, files, copies of the working tree."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.machine.fingerprint import Fingerprint, take
from tests.hosts.machine.outside import Process, outside
from tests.hosts.machine.result import MachineError, Result, Running
from tests.places import ROOT

REPOSITORY = ROOT


@dataclass(frozen=True)
class FileStat:
    """lstat(2) in the host: `kind` is stat(1)'s %F, `mode` the permission bits, `mtime` in seconds with fraction."""

    kind: str
    mode: int
    owner: str
    group: str
    size: int
    mtime: float
    inode: int


class Inside:
    """Commands and files of a host. While it is switched off, they work on its disk through chroot(8)."""

    name: str
    folder: Path

    @property
    def root(self) -> Path:
        """The host's file system, as mounted outside."""
        raise NotImplementedError

    @property
    def leader(self) -> Process | None:
        raise NotImplementedError

    # --- commands

    def _argv(self, argv: str | Sequence[str], user: str) -> list[str]:
        command = ["/bin/bash", "-c", argv] if isinstance(argv, str) else list(argv)
        if user != "root":
            command = ["runuser", "-u", user, "--", *command]
        if self.leader is None:
            return ["/usr/sbin/chroot", str(self.root), *command]
        return ["/usr/bin/nsenter", "--target", str(self.leader.pid), "--all", *command]

    def _environment(self, user: str, extra: Mapping[str, str] | None) -> dict[str, str]:
        """What a login gives: nothing of the testing machine's environment gets in."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root" if user == "root" else f"/home/{user}",
            "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "dumb", **(extra or {}),
        }  # fmt: skip

    def run(
        self, argv: str | Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 120.0, check: bool = True,
        user: str = "root", input: bytes | None = None,
    ) -> Result:  # fmt: skip
        """Run to the end: a list as it is, a string through bash. Standard input is closed unless `input` is given.

        Raises MachineError when it fails and `check` is set, or when it runs longer than `timeout` seconds.
        """
        started = time.monotonic()
        process = subprocess.Popen(
            self._argv(argv, user), stdin=subprocess.DEVNULL if input is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self._environment(user, env), start_new_session=True, cwd="/",
        )  # fmt: skip
        shown = (argv,) if isinstance(argv, str) else tuple(argv)
        late = False
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            late = True
            Running(process, Path("/dev/null")).kill()
            # A daemon that kept the pipes would hold us for ever; what was said so far is enough.
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired as held:
                out, err = held.output or b"", held.stderr or b""
        except BaseException:
            Running(process, Path("/dev/null")).kill()
            raise
        result = Result(
            shown, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - started
        )
        if late:
            raise MachineError(f"still running after {timeout:g} s: {result.describe()}")
        if check and result.code:
            raise MachineError(f"on {self.name}: {result.describe()}")
        return result

    def start(self, argv: str | Sequence[str], *, env: Mapping[str, str] | None = None, user: str = "root") -> Running:
        """Start a command and leave it running; see Running."""
        outputs = self.folder / "outputs"
        outputs.mkdir(exist_ok=True)
        output = outputs / f"{time.monotonic_ns()}.log"
        with output.open("wb") as handle:
            process = subprocess.Popen(
                self._argv(argv, user), stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT,
                env=self._environment(user, env), start_new_session=True, cwd="/",
            )  # fmt: skip
        return Running(process, output)

    def wait_for(self, argv: str | Sequence[str], *, timeout: float = 60.0, every: float = 0.2) -> Result:
        """Repeat a command until it succeeds. Raises MachineError with the last attempt after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            result = self.run(argv, check=False, timeout=max(1.0, timeout))
            if result.ok:
                return result
            if time.monotonic() > deadline:
                raise MachineError(f"did not come true within {timeout:g} s on {self.name}: {result.describe()}")
            time.sleep(every)

    # --- files (through the host's own programs: an absolute symlink must not lead out of it)

    def read(self, path: str) -> str:
        return self.read_bytes(path).decode(errors="replace")

    def read_bytes(self, path: str) -> bytes:
        """Content of a file. Raises MachineError when it cannot be read."""
        done = subprocess.run(
            self._argv(["cat", "--", path], "root"), stdin=subprocess.DEVNULL, capture_output=True,
            env=self._environment("root", None), timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise MachineError(done.stderr.decode(errors="replace").strip())
        return done.stdout

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file with its folders."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1" && chown "$3" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}", owner], input=data)

    def exists(self, path: str) -> bool:
        """Whether anything is there, a dangling symlink included."""
        return self.stat(path) is not None

    def stat(self, path: str) -> FileStat | None:
        """lstat(2), or None when there is nothing."""
        result = self.run(["stat", "--printf=%F|%a|%U|%G|%s|%.9Y|%i", "--", path], check=False)
        if not result.ok:
            return None
        kind, mode, owner, group, size, mtime, inode = result.stdout.split("|")
        return FileStat(kind, int(mode, 8), owner, group, int(size), float(mtime), int(inode))

    def listdir(self, path: str) -> list[str]:
        return sorted(self.run(["ls", "-A", "--", path]).stdout.split("\n")[:-1])

    def push(self, local: Path, path: str) -> None:
        """Copy a file or a folder's content from outside to `path`, owned by root."""
        if local.is_dir():
            packed = outside("tar", "-C", str(local), "-cf", "-", ".", timeout=300).stdout
            self._unpack(packed, path)
        else:
            self.write(path, local.read_bytes(), mode=local.stat().st_mode & 0o7777)

    def clone_repository(self, to: str = "/root/nqrust", repository: Path = REPOSITORY) -> str:
        """Put the working tree at `to` as a clone would: tracked and new files, nothing that is ignored. Returns `to`."""
        names = outside("git", "-C", str(repository), "ls-files", "-co", "--exclude-standard", "-z").stdout.split(b"\0")
        there = b"\0".join(name for name in names if name and (repository / name.decode()).exists())
        packed = outside("tar", "-C", str(repository), "--null", "-T", "-", "-cf", "-", input=there, timeout=300).stdout
        self._unpack(packed, to)
        return to

    def clone_commit(self, commit: str, to: str, repository: Path = REPOSITORY) -> str:
        """Put the tree of an earlier commit at `to`. Returns `to`."""
        self._unpack(outside("git", "-C", str(repository), "archive", "--format=tar", commit, timeout=300).stdout, to)
        return to

    def _unpack(self, packed: bytes, path: str) -> None:
        script = f"mkdir -p {shlex.quote(path)} && tar -C {shlex.quote(path)} --no-same-owner -xf -"
        self.run(script, input=packed, timeout=300)

    def fingerprint(self, *, own: bool = True) -> Fingerprint:
        """Everything an installer could have changed. `own`: taken by the tests' own script, so that it does not
        depend on the product; False asks the product's `nqr fingerprint`."""
        return take(self.run, own=own)
