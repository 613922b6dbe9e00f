"""Commands, locks and process identities on the machine that runs the tests (never inside a test host)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class OutsideError(RuntimeError):
    """A command that the fixtures need on the testing machine failed."""


def outside(
    *argv: str, check: bool = True, input: bytes | None = None, timeout: float = 60.0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end with closed stdin (or `input`). `timeout` in seconds. Raises OutsideError."""
    done = subprocess.run(
        argv, input=input, stdin=subprocess.DEVNULL if input is None else None, capture_output=True, timeout=timeout,
        env={**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", **(env or {})}, check=False,
    )  # fmt: skip
    if check and done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
        raise OutsideError(f"{' '.join(argv)} exited with {done.returncode}: {said}")
    return done


def cache_root() -> Path:
    """Where base trees, package caches and the records of running hosts live: $NQR_TEST_CACHE, or the usual places.

    Outside the repository on purpose, and not below /tmp: a base tree is worth keeping over a reboot.
    """
    configured = os.environ.get("NQR_TEST_CACHE")
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/cache/nqrust-tests")
    return Path("~/.cache/nqrust-tests").expanduser()


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold flock(2) on `path` (made when missing); waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Process:
    """A process by identity: its number, its start time in clock ticks since boot (proc(5), field 22) and the boot.

    A number alone may have been given to somebody else in the meantime; the three together cannot.
    """

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process with that number now, or None. A zombie counts as gone."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot)

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def kill(self, signal: int) -> None:
        """Signal it if it is still the same process."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal)


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


def why_not() -> str | None:
    """Why real hosts cannot be made here, in a sentence, or None when they can."""
    if os.geteuid() != 0:
        return "needs root (network namespaces, overlayfs and systemd-nspawn)"
    for program, package in (
        ("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap"), ("ip", "iproute2"),
        ("iptables", "iptables"), ("nsenter", "util-linux"),
    ):  # fmt: skip
        if not any(os.access(f"{folder}/{program}", os.X_OK) for folder in PATH.split(":")):
            return f"needs {program} (package {package})"
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="probe-") as folder:
        for name in ("lower", "upper", "work", "merged"):
            Path(folder, name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        mounted = outside("mount", "-t", "overlay", "-o", options, "overlay", f"{folder}/merged", check=False)
        if mounted.returncode:
            return f"needs overlayfs with its upper directory below {root}: {mounted.stderr.decode().strip()}"
        outside("umount", f"{folder}/merged")
    return None
