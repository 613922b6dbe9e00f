"""Finds processes by their cgroup or a variable of their environment. proc(5).

Only processes of the same PID namespace count: a container on this machine may run an agent with its own VMs.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping

from nqrust.agent.processes import parse_stat
from nqrust.agent.scopes.port import Process, Scope
from nqrust.contract.names import SCOPE_ENV, SCOPE_PREFIX, VM_SLICES
from nqrust.host.errors import HostError
from nqrust.host.port import Host

RUN_DIR_ENV = "NQRUST_RUN_DIR"
"""Separates the VMs of two agents on one machine (tests; a second agent with another FC_RUN_DIR)."""

_RUN_DIR = f"{RUN_DIR_ENV}=".encode()
LARGEST = 1 << 20
"""Bytes that are read of an environment."""
_PAIR = struct.calcsize("@LL")

_SLICES = "|".join(map(re.escape, VM_SLICES))
_UNIT = re.compile(rf"(?:/(?:{_SLICES}))+/({re.escape(SCOPE_PREFIX)}[A-Za-z0-9-]+)\.scope(?:/.*)?")
_OF_SYSTEMD = ("", "name=systemd")
_AT_SECURE = 23  # getauxval(3)


def scope_of_cgroup(text: str, tops: Mapping[str, str]) -> str | None:
    """Return the name of the VM scope in /proc/PID/cgroup, from a hierarchy of systemd (v2, hybrid or v1's name=systemd).

    `tops`: from `tops_of`. The slices of VMs are right below the top, where only root makes groups. A user's own systemd makes
    groups of any name further down.
    """
    for hierarchy, path in _groups(text):
        top = tops.get(hierarchy, "")
        match = _UNIT.fullmatch(path[len(top) :]) if path.startswith(top) else None
        if match:
            return match[1]
    return None


def tops_of(text: str) -> dict[str, str]:
    """Return hierarchy -> the group that systemd has below it, from /proc/1/cgroup: not the root in some containers."""
    return {hierarchy: path.removesuffix("/init.scope").rstrip("/") for hierarchy, path in _groups(text)}


def _groups(text: str) -> list[tuple[str, str]]:
    lines = [line.split(":", 2) for line in text.splitlines()]
    return [(line[1], line[2]) for line in lines if len(line) == 3 and line[1] in _OF_SYSTEMD]


def gained_privileges(auxv: bytes) -> bool:
    """Return whether a process got its user by the mode of its program, from /proc/PID/auxv. Its environment is then that of
    whoever started it."""
    pairs = struct.iter_unpack("@LL", auxv[: len(auxv) // _PAIR * _PAIR])
    return any(key == _AT_SECURE and value for key, value in pairs)


def scope_of_environ(data: bytes, run_dir: str) -> str | None:
    """Return the name of the VM scope in /proc/PID/environ, if it belongs to the agent with this `run_dir`."""
    if _RUN_DIR not in data:  # most processes of a host
        return None
    found, ours = None, False
    for item in data.split(b"\0"):
        name, _, value = item.partition(b"=")
        if name == SCOPE_ENV.encode():
            found = value.decode(errors="replace")
        elif name == RUN_DIR_ENV.encode():
            ours = value == run_dir.encode()
    return found if found and ours and found.startswith(SCOPE_PREFIX) else None


def scan(host: Host, identify: Callable[[Host, str], str | None], pids: Iterable[str] | None = None) -> dict[str, Scope]:
    """Return all scopes by VM id. `identify(host, "/proc/PID")` returns the scope's name of a process, or None.

    `pids`: the only processes to look at.
    """
    mine = _pid_namespace(host, "self")
    boot = _boot_time(host)
    found: dict[str, list[Process]] = {}
    for pid in host.listdir("/proc") if pids is None else pids:
        if not pid.isdigit():
            continue
        try:
            name = identify(host, f"/proc/{pid}")
            if name is None or _pid_namespace(host, pid) != mine:
                continue
            comm, lives, ticks = parse_stat(host.read_text(f"/proc/{pid}/stat"))
        except (HostError, ValueError, IndexError):
            continue  # it ended during the scan
        if lives:
            started = boot + ticks / os.sysconf("SC_CLK_TCK")
            found.setdefault(name, []).append(Process(int(pid), comm, started))
    scopes = (Scope(name, tuple(sorted(ps, key=lambda p: p.pid))) for name, ps in found.items())
    return {scope.vm_id: scope for scope in scopes}


def _pid_namespace(host: Host, pid: str) -> str:
    return host.readlink(f"/proc/{pid}/ns/pid")


def _boot_time(host: Host) -> float:
    for line in host.read_text("/proc/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
