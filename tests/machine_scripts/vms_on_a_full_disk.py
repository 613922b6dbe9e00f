"""Runs in network and mount namespaces, started by tests/live/agent/test_full_disk_live.py: VMs whose folder is on a small file system.

vms_on_a_full_disk.py IMAGE_FOLDER WORK_FOLDER     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import A, B, Site, guest, typed, up

from nqrust.client.agent import AgentClient

MIB = 1 << 20
LEFT = 2 * MIB
WRITE = "dd if=/dev/urandom of=/root/{0} bs=1M count=12 2>/dev/null; sync; md5sum /root/{0}"
AGAIN = "echo 3 > /proc/sys/vm/drop_caches; md5sum /root/{0}"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    usage = os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - LEFT)
    return filler


async def seen_as(client: AgentClient, vm_id: str, state: str, seconds: float = 60) -> dict[str, Any]:
    """State, reason, pids and how long it took; the last state if it never came."""
    started = time.monotonic()
    while True:
        status = await client.get_vm(vm_id)
        assert status is not None
        took = round(time.monotonic() - started, 1)
        if status.state == state or took > seconds:
            return {"state": status.state, "why": status.exit_reason, "pids": status.pids, "seconds": took}
        await asyncio.sleep(0.2)


async def said(client: AgentClient, vm_id: str, line: str, pattern: str) -> str:
    for _ in range(10):
        found = re.findall(pattern, await typed(client, vm_id, line, wait=3))
        if found:
            return str(found[-1])
    return "nothing"


async def scenario(site: Site) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    folder = site.work / "fc"
    site.start_agent()
    await up(site)
    async with site.client() as client:
        for vm_id, name, ip in ((A, "web1", "10.0.0.20"), (B, "web2", "10.0.0.21")):
            await client.put_vm(site.spec(vm_id, name, ip, disk_mib=128))
        for vm_id in (A, B):
            await guest(client, vm_id)
            await typed(client, vm_id, "root", wait=3)
        seen["boot"] = [await said(client, vm, BOOT_ID, r"[0-9a-f]{8}-[0-9a-f-]{27}") for vm in (A, B)]

        filler = fill(folder)
        await asyncio.gather(*(typed(client, vm, WRITE.format("one"), wait=1) for vm in (A, B)))
        seen["full"] = [await seen_as(client, vm, "paused") for vm in (A, B)]
        await asyncio.sleep(20)  # longer than the agent's pause between two looks
        seen["still_full"] = [await seen_as(client, vm, "paused") for vm in (A, B)]
        filler.unlink()
        seen["room"] = await asyncio.gather(*(seen_as(client, vm, "running") for vm in (A, B)))
        await asyncio.sleep(10)  # the guests write what waited
        seen["boot_later"] = [await said(client, vm, BOOT_ID, r"[0-9a-f]{8}-[0-9a-f-]{27}") for vm in (A, B)]
        seen["sums"] = [
            [await said(client, vm, line.format("one"), r"([0-9a-f]{32})  /root/one") for line in ("md5sum /root/{0}", AGAIN)]
            for vm in (A, B)
        ]

        # once more, and somebody pauses one of them in the meantime
        filler = fill(folder)
        await asyncio.gather(*(typed(client, vm, WRITE.format("two"), wait=1) for vm in (A, B)))
        for vm in (A, B):
            await seen_as(client, vm, "paused")
        paused = await client.pause_vm(B)
        seen["held"] = [paused.state, paused.exit_reason]
        filler.unlink()
        seen["other"] = await seen_as(client, A, "running")
        await asyncio.sleep(20)
        seen["held_later"] = [(await seen_as(client, B, "paused"))[one] for one in ("state", "why")]
        seen["resumed"] = (await client.resume_vm(B)).state
        seen["boot_last"] = await said(client, B, BOOT_ID, r"[0-9a-f]{8}-[0-9a-f-]{27}")

        fill(folder)
        for vm in (A, B):
            await client.delete_vm(vm)
        seen["left"] = os.listdir(folder / "vms")
    return seen


def main() -> None:
    site = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(site.work / "fc")], check=True)
    site.answer(scenario)


if __name__ == "__main__":
    main()
