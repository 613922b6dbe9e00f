"""Runs in network and mount namespaces, started by tests/live/agent/test_many_vms.py and by benchmarks/many_vms.py: VMs of 64 MiB
on one agent, whose guests halt.

many_vms.py IMAGE_FOLDER WORK_FOLDER PROGRAMS VMM COUNT     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import Site, up

from nqrust.client.agent import AgentClient

AT_ONCE = 4
MEMORY = 64


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)


async def each(ids: list[str], work: Callable[[str], Awaitable[object]]) -> float:
    """Do `work` for every VM, some at once. Returns seconds."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(vm_id: str) -> None:
        async with places:
            await work(vm_id)

    began = time.monotonic()
    await asyncio.gather(*(one(vm_id) for vm_id in ids))
    return round(time.monotonic() - began, 2)


async def pids(client: AgentClient) -> dict[str, list[int]]:
    """VM -> its processes, of those that run."""
    return {vm.id: vm.pids for vm in (await client.inventory()).vms if vm.state == "running"}


async def listed(client: AgentClient) -> float:
    """Seconds of the fastest of five inventories."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        await client.inventory()
        times.append(time.monotonic() - began)
    return round(min(times), 3)


async def scenario(site: Site, count: int) -> dict[str, Any]:
    seen: dict[str, Any] = {"count": count}
    ids = [f"{number:08x}-aaaa-4aaa-8aaa-{'a' * 12}" for number in range(1, count + 1)]
    specs = {
        vm_id: site.spec(vm_id, f"vm{number}", f"10.0.0.{10 + number}", disk_mib=16, memory_mib=MEMORY)
        for number, vm_id in enumerate(ids, 1)
    }
    logs = [site.work / "fc" / "vms" / vm_id / "console.log" for vm_id in ids]
    site.start_agent()
    await up(site)
    assert site.agent is not None
    seen["agent_mib_without"] = rss_mib(site.agent.pid)
    async with site.client() as client:
        seen["create_seconds"] = await each(ids, lambda vm_id: client.put_vm(specs[vm_id]))
        for _ in range(600):
            booted = sum("ready, boot " in log.read_text(errors="replace") for log in logs)
            if booted == count:
                break
            await asyncio.sleep(0.1)
        seen["booted"] = booted
        first = await pids(client)
        seen["running"] = len(first)
        seen["list_seconds"] = await listed(client)
        seen["agent_mib"] = rss_mib(site.agent.pid)

        began = time.monotonic()
        site.agent.terminate()
        seen["agent_ended"] = site.agent.wait(60)
        seen["alive_without_agent"] = sum(os.path.exists(f"/proc/{pid}") for one in first.values() for pid in one)
        site.start_agent()
        await up(site)
        after = await pids(client)
        seen["restart_seconds"] = round(time.monotonic() - began, 2)
        seen["same_pids"] = after == first
        seen["agent_mib_after_restart"] = rss_mib(site.agent.pid)
        seen["put_again"] = (await client.put_vm(specs[ids[-1]])).pids == first[ids[-1]]

        seen["delete_seconds"] = await each(ids, client.delete_vm)
        seen["left"] = {
            "vms": os.listdir(site.work / "fc" / "vms"),
            "processes": site.leftovers(),
            "consoles": os.listdir(site.work / "state" / "screen"),
            "taps": [name for name in os.listdir("/sys/class/net") if name.startswith("tap")],
            "hosts": os.listdir(site.work / "dhcp" / "hosts.d"),
        }
    return seen


def main() -> None:
    image, work, programs, vmm, count = sys.argv[1:]
    site = Site(Path(image), Path(work))
    site.run_under(vmm, programs)
    site.answer(lambda site: scenario(site, int(count)))


if __name__ == "__main__":
    main()
