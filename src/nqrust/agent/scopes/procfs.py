"""Finds processes by their cgroup or a variable of their environment. proc(5).

Only processes of the same PID namespace count: a container on this machine may run an agent with its own VMs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from nqrust.agent.processes import parse_stat
from nqrust.agent.scopes.port import Process, Scope
from nqrust.contract.names import SCOPE_ENV, SCOPE_PREFIX
from nqrust.host.errors import HostError
from nqrust.host.port import Host

RUN_DIR_ENV = "NQRUST_RUN_DIR"
"""Separates the VMs of two agents on one machine (tests; a second agent with another FC_RUN_DIR)."""

_RUN_DIR = f"{RUN_DIR_ENV}=".encode()
LARGEST = 1 << 20
"""Bytes that are read of an environment."""

_UNIT = re.compile(rf"/({re.escape(SCOPE_PREFIX)}[A-Za-z0-9-]+)\.scope(?:/|$)", re.MULTILINE)


def scope_of_cgroup(text: str) -> str | None:
    """Return the name of the VM scope in /proc/PID/cgroup, from any hierarchy (v2, hybrid or v1's name=systemd)."""
    match = _UNIT.search(text)
    return match[1] if match else None


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
