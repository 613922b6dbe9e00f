"""Prometheus metrics of a host's VMs, from one inventory. https://prometheus.io/docs/practices/naming/"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST as MEDIA_TYPE
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

import nqrust
from nqrust.agent.vmm.verdict import Verdict
from nqrust.contract.agent import Inventory

__all__ = ["MEDIA_TYPE", "render"]

STATES = ("running", "paused", "stopped", "failed")
_LABELS = ("vm_id", "vm")


class _Collector:
    def __init__(self, inventory: Inventory, verdict: Verdict) -> None:
        self._inventory, self._verdict = inventory, verdict

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("nqrust_agent", "Version, VMM and accelerator of the agent.")
        info.add_metric([], {"version": nqrust.__version__, "vmm": self._verdict.vmm, "accel": self._verdict.accel})
        yield info
        states = GaugeMetricFamily("nqrust_agent_vms", "VMs on this host by state.", labels=("state",))
        for state in STATES:
            states.add_metric((state,), sum(vm.state == state for vm in self._inventory.vms))
        yield states
        yield GaugeMetricFamily("nqrust_agent_taps", "TAP devices of VMs.", value=len(self._inventory.taps))
        cpu = GaugeMetricFamily("nqrust_guest_cpu_ratio", "CPU use as the guest sees it, 0 to 1.", labels=_LABELS)
        memory = GaugeMetricFamily("nqrust_guest_memory_available_bytes", "Memory the guest has left.", labels=_LABELS)
        uptime = GaugeMetricFamily("nqrust_guest_uptime_seconds", "Time since the guest booted.", labels=_LABELS)
        for vm in self._inventory.vms:
            if vm.guest is not None:
                cpu.add_metric((vm.id, vm.name), vm.guest.cpu_percent / 100)
                memory.add_metric((vm.id, vm.name), vm.guest.memory_available_kib * 1024)
                uptime.add_metric((vm.id, vm.name), vm.guest.uptime_seconds)
        yield from (cpu, memory, uptime)


def render(inventory: Inventory, verdict: Verdict) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(inventory, verdict))
    return generate_latest(registry)
