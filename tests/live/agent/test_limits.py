"""What a VM may take of its host: enough for a guest that uses all it was given, and no more than leaves the host alive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.agent.scopes import limits
from nqrust.agent.scopes.limits import Limits
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.systemd import SystemdScopes
from nqrust.agent.settings import Settings
from nqrust.contract.vms import VmLimits

from .conftest import Bench


@pytest.mark.parametrize("memory", [64, 256, 4096, 65536])
@pytest.mark.parametrize(("vmm", "accel", "room"), [("firecracker", "kvm", 128), ("qemu", "kvm", 256), ("qemu", "tcg", 1280)])
def test_a_guest_may_use_all_of_its_memory(memory: int, vmm: str, accel: str, room: int) -> None:
    allowed = limits.of_vm(vcpus=1, memory_mib=memory, vmm=vmm, accel=accel, cpus=4)
    assert allowed.memory_mib >= memory + room
    assert allowed.memory_mib <= memory * 1.05 + room, "headroom, not another guest"


def test_some_cpu_is_the_hosts_whatever_a_vm_asks_for() -> None:
    def of(vcpus: int, cpus: int) -> int:
        return limits.of_vm(vcpus=vcpus, memory_mib=64, vmm="qemu", accel="kvm", cpus=cpus).cpu_percent

    assert (of(1, 4), of(2, 8)) == (150, 250)
    assert (of(1, 1), of(32, 8)) == (80, 780)


def test_systemd_is_told(tmp_path: Path) -> None:
    host = FakeHost.debian12()
    host.on("systemd-run", prefix=True)
    seen: list[tuple[str, ...]] = []
    run = host.run
    host.run = lambda cmd, **more: (seen.append(cmd.argv), run(cmd, **more))[1]  # type: ignore[method-assign]
    SystemdScopes(host, Settings()).spawn(
        Launch("a1", "VM web1", ("qemu",), "/srv/fc/vms/a1", 1_900_000_000, Limits(400, 150, 260))
    )
    before_the_program = seen[0][: seen[0].index("--")]
    assert {"MemoryMax=400M", "CPUQuota=150%", "TasksMax=260"} <= set(before_the_program)


UNIFIED = {
    "/proc/7/cgroup": "0::/nqrust.slice/nqrust-vms.slice/fc-a1.scope\n",
    "/sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
    "/sys/fs/cgroup/nqrust.slice/nqrust-vms.slice/fc-a1.scope/memory.max": f"{400 << 20}\n",
    "/sys/fs/cgroup/nqrust.slice/nqrust-vms.slice/fc-a1.scope/cpu.max": "150000 100000\n",
    "/sys/fs/cgroup/nqrust.slice/nqrust-vms.slice/fc-a1.scope/pids.max": "260\n",
}
HYBRID = {
    "/proc/7/cgroup": "9:memory:/vm\n4:cpu,cpuacct:/vm\n3:pids:/vm\n1:name=systemd:/vm\n0::/vm\n",
    "/sys/fs/cgroup/memory/vm/memory.limit_in_bytes": f"{400 << 20}\n",
    "/sys/fs/cgroup/cpu,cpuacct/vm/cpu.cfs_quota_us": "150000\n",
    "/sys/fs/cgroup/cpu,cpuacct/vm/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/pids/vm/pids.max": "260\n",
}
FREE = {
    "/proc/7/cgroup": "9:memory:/vm\n4:cpu,cpuacct:/vm\n3:pids:/vm\n0::/vm\n",
    "/sys/fs/cgroup/memory/vm/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/cpu,cpuacct/vm/cpu.cfs_quota_us": "-1\n",
    "/sys/fs/cgroup/cpu,cpuacct/vm/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/pids/vm/pids.max": "max\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (UNIFIED, VmLimits(memory_mib=400, cpu_percent=150, tasks=260)),
        (HYBRID, VmLimits(memory_mib=400, cpu_percent=150, tasks=260)),
        (FREE, None),
        ({}, None),
    ],
    ids=["unified", "hybrid", "without limits", "no control groups"],
)
def test_what_is_in_force_is_what_the_kernel_says(files: dict[str, str], expected: VmLimits | None) -> None:
    host = FakeHost.debian12()
    for path, text in files.items():
        host.put(path, text)
    assert limits.in_force(host, 7) == expected


def test_a_launch_carries_the_limits_of_its_vm(bench: Bench) -> None:
    bench.service.put(bench.spec(vcpus=1, memory_mib=512))
    allowed = bench.scopes.spawned[0].limits
    assert allowed is not None
    assert allowed.memory_mib > 512 + 1024
    assert allowed.cpu_percent <= max(80, len(os.sched_getaffinity(0)) * 100 - 20)
