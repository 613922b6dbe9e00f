"""Recent metrics of guests, collected while somebody watches: the manager keeps only each VM's last report.

In memory, with limits on samples and VMs. All sessions share it, because every role may see every VM.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from nqrust.contract.vms import Vm

SAMPLES = 240  # an hour of reports, one every 15 s
VMS = 500


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the epoch. Shares are percent; rates bytes per second."""

    at: float
    uptime: float
    cpu: float
    memory: float
    disk: float
    rx: float
    tx: float
    rx_total: int
    tx_total: int


_samples: OrderedDict[tuple[str, str], deque[Sample]] = OrderedDict()


def remember(vms: Iterable[Vm], now: float | None = None) -> None:
    """Store each VM's report, unless it is stored already."""
    at = time.time() if now is None else now
    for vm in vms:
        report = vm.guest
        if report is None:
            continue
        known = _samples.setdefault((vm.id, report.boot_id), deque(maxlen=SAMPLES))
        _samples.move_to_end((vm.id, report.boot_id))
        last = known[-1] if known else None
        if last is not None and report.uptime_seconds <= last.uptime:
            continue
        passed = report.uptime_seconds - last.uptime if last else 0.0
        known.append(
            Sample(
                at,
                report.uptime_seconds,
                report.cpu_percent,
                _used(report.memory_total_kib, report.memory_available_kib),
                _used(report.disk_total_kib, report.disk_available_kib),
                max(0, report.net_rx_bytes - last.rx_total) / passed if last else 0.0,
                max(0, report.net_tx_bytes - last.tx_total) / passed if last else 0.0,
                report.net_rx_bytes,
                report.net_tx_bytes,
            )
        )
    while len(_samples) > VMS:
        _samples.popitem(last=False)


def of(vm: Vm) -> list[Sample]:
    """Return samples of this VM's current boot, oldest first."""
    return list(_samples.get((vm.id, vm.guest.boot_id if vm.guest else ""), ()))


def _used(total: int, available: int) -> float:
    return 100.0 * (total - available) / total if total > 0 else 0.0
