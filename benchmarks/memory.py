"""Resident memory of the idle services of an installed host, and of the guest agent, from smaps_rollup (proc(5))."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from benchmarks.figures import line, under

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

BUDGETS = {"manager": 150.0, "agent": 90.0, "ui": None}
IDLE_SECONDS = 40
GUEST_AGENT = "/opt/nqrust-microvm/bin/guest-agent"
GUEST_CONF = "VM_ID=00000000-0000-4000-8000-000000000000\nMANAGER_URL=http://10.0.0.1:19091\nTOKEN=nobody\n"


def bench(host: Machine) -> None:
    """The guest agent is the binary that goes into VMs, run on the host itself: what it needs is the same."""
    host.write("/run/benchmark.conf", GUEST_CONF, mode=0o600)
    host.run(["systemd-run", "--quiet", "--unit", "benchmark-guest-agent", GUEST_AGENT, "--config", "/run/benchmark.conf"])
    try:
        time.sleep(IDLE_SECONDS)
        for name, budget in BUDGETS.items():
            _show(host, name, f"nqrust-{name}", budget)
        _show(host, "guest agent", "benchmark-guest-agent", 5.0)
    finally:
        host.run(["systemctl", "stop", "benchmark-guest-agent"], check=False)
        host.run(["rm", "-f", "/run/benchmark.conf"])


def _show(host: Machine, what: str, unit: str, budget: float | None) -> None:
    control = host.run(["systemctl", "show", "--property", "ControlGroup", "--value", unit]).stdout.strip()
    mounts = "cat $(find /sys/fs/cgroup -path '*'\"$1\"/cgroup.procs) | sort -u"
    pids = host.run(["bash", "-c", mounts, "bash", control]).stdout.split()
    rollups = [host.read(f"/proc/{pid}/smaps_rollup") for pid in pids]
    if not rollups:
        raise SystemExit(f"{unit} does not run")
    rss, pss = (sum(_mib(text, name) for text in rollups) for name in ("Rss", "Pss"))
    limit = None if budget is None else under(rss, budget, "MiB")
    line(f"{what}, resident memory, idle", f"{rss:.1f} MiB", f"{pss:.1f} MiB proportional, {len(pids)} process", limit)


def _mib(rollup: str, name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0
