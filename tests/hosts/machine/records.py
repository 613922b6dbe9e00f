"""What the fixtures have put on the testing machine, written down before it is done, so that a dead run can be cleaned up.

One JSON file for each host or network below `<cache>/run`. A record names its owner by identity (outside.Process);
when the owner is gone, `reap` takes everything in the record away. Nothing that is not in a record is ever touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hosts.machine.outside import Process, cache_root, locked, outside

CGROUP_BASE = "nqr-test-hosts"


def run_folder() -> Path:
    return cache_root() / "run"


def global_lock() -> Path:
    return run_folder() / "lock"


@dataclass
class Record:
    """Everything of one host or network outside. Lists are in the order of making; taken away in reverse.

    `rules` are iptables(8) arguments after the command letter, as (table, chain and rule).
    """

    name: str
    owner: Process
    processes: list[Process] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    rules: list[tuple[str, list[str]]] = field(default_factory=list)
    cgroup: str = ""
    folder: str = ""
    forwarding: bool = False

    @property
    def path(self) -> Path:
        return run_folder() / f"{self.name}.json"

    def save(self) -> None:
        """Write atomically; called before each change."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".tmp{os.getpid()}")
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(self.path)

    @classmethod
    def load(cls, path: Path) -> Record:
        data = json.loads(path.read_text())
        data["owner"] = Process(**data["owner"])
        data["processes"] = [Process(**one) for one in data["processes"]]
        data["rules"] = [(table, list(rule)) for table, rule in data["rules"]]
        return cls(**data)

    def undo(self) -> None:
        """Take all of it away. Safe to repeat; the record itself goes last."""
        end_processes(self.processes, self.cgroup)
        for mount in reversed(self.mounts):
            unmount(mount)
        for link in reversed(self.links):
            outside("ip", "link", "delete", link, check=False)
        for table, rule in reversed(self.rules):
            outside("iptables", "-w", "-t", table, "-D", *rule, check=False)
        if self.cgroup:
            remove_cgroup(self.cgroup)
            with contextlib.suppress(OSError):
                # nspawn makes it, and leaves it where /run is no tmpfs.
                os.rmdir(f"/run/systemd/nspawn/propagate/{Path(self.cgroup).name}")
        if self.folder and not any(line.split()[1].startswith(f"{self.folder}/") for line in _mounts()):
            # Only ever with nothing mounted below: removing through a mount would reach what is behind it.
            shutil.rmtree(self.folder, ignore_errors=True)
        self.path.unlink(missing_ok=True)
        if self.forwarding:
            with locked(global_lock()):
                restore_forwarding()


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def unmount(path: str) -> None:
    """Unmount; waits a moment for the last process to let go, then detaches."""
    for _ in range(50):
        if not any(line.split()[1] == path for line in _mounts()):
            return
        if outside("umount", path, check=False).returncode == 0:
            return
        time.sleep(0.1)
    outside("umount", "--lazy", path, check=False)


# --- control groups: one for each host, or two systemds would manage the same tree


def hierarchies() -> list[Path]:
    """Mount points of the cgroup hierarchies that systemd uses: the unified one and, on hybrid machines, name=systemd."""
    found = []
    for line in _mounts():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(where))
    return found


def make_cgroup(name: str) -> list[Path]:
    """Create the group in every hierarchy; returns the cgroup.procs files to write a process number to."""
    files = []
    for root in hierarchies():
        (root / name).mkdir(parents=True, exist_ok=True)
        files.append(root / name / "cgroup.procs")
    return files


def cgroup_members(name: str) -> list[int]:
    pids: set[int] = set()
    for root in hierarchies():
        for file in (root / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids.update(int(word) for word in file.read_text().split())
    return sorted(pids)


def remove_cgroup(name: str) -> None:
    for root in hierarchies():
        top = root / name
        folders = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in [*folders, top]:
            for _ in range(20):
                with contextlib.suppress(FileNotFoundError):
                    try:
                        folder.rmdir()
                    except OSError:
                        time.sleep(0.05)
                        continue
                break
        with contextlib.suppress(OSError):
            top.parent.rmdir()


def end_processes(processes: list[Process], cgroup: str) -> None:
    """SIGKILL the recorded processes, newest first, and whatever is left in the host's own control group."""
    for process in reversed(processes):
        process.kill(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while process.alive and time.monotonic() < deadline:
            time.sleep(0.02)
    if cgroup:
        deadline = time.monotonic() + 10
        while (pids := cgroup_members(cgroup)) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


# --- forwarding: one switch for the whole machine, so it is counted


_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def enable_forwarding() -> None:
    """Call with the global lock held, after the record with `forwarding` is saved."""
    saved = run_folder() / "ip_forward.before"
    if not saved.exists():
        saved.write_text(_FORWARD.read_text())
    _FORWARD.write_text("1\n")


def restore_forwarding() -> None:
    """Give the switch back its earlier position when no recorded network needs it. Call with the global lock held."""
    saved = run_folder() / "ip_forward.before"
    if saved.exists() and not any(record.forwarding for record in records()):
        _FORWARD.write_text(saved.read_text())
        saved.unlink()


def records() -> list[Record]:
    found = []
    for path in run_folder().glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(Record.load(path))
    return found


def reap() -> list[str]:
    """Clean up after test runs whose process is gone. Returns the names of what was removed."""
    with locked(run_folder() / "reaper.lock"):
        return _reap()


def _reap() -> list[str]:
    removed = []
    dead = [record for record in records() if not record.owner.alive]
    # Hosts before networks: a bridge cannot be judged unused while a host hangs on it.
    for record in sorted(dead, key=lambda record: record.forwarding):
        record.undo()
        removed.append(record.name)
    return removed
