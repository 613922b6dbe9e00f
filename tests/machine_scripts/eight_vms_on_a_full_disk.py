"""Runs in network and mount namespaces, started by tests/live/agent/test_full_disk_live.py: eight VMs whose folder is on a small
file system.

eight_vms_on_a_full_disk.py IMAGE_FOLDER WORK_FOLDER     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import Site, guest, typed, up
from tests.machine_scripts.vms_on_a_full_disk import BOOT_ID, WRITE, fill, said, seen_as

from nqrust.client.agent import AgentClient

COUNT = 8
PATTERN = r"[0-9a-f]{8}-[0-9a-f-]{27}"


async def boot_ids(client: AgentClient, ids: list[str]) -> list[str]:
    return await asyncio.gather(*(said(client, vm_id, BOOT_ID, PATTERN) for vm_id in ids))


async def scenario(site: Site) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    ids = [f"{number:08x}-aaaa-4aaa-8aaa-{'a' * 12}" for number in range(1, COUNT + 1)]
    site.start_agent()
    await up(site)
    async with site.client() as client:
        for number, vm_id in enumerate(ids, 1):  # one after the other: emulated guests share two processors
            await client.put_vm(site.spec(vm_id, f"web{number}", f"10.0.0.{20 + number}", disk_mib=96, memory_mib=96))
            await guest(client, vm_id)
            await typed(client, vm_id, "root", wait=3)
        seen["boot"] = await boot_ids(client, ids)

        filler = fill(site.work / "fc")
        await asyncio.gather(*(typed(client, vm_id, WRITE.format("one"), wait=1) for vm_id in ids))
        seen["full"] = await asyncio.gather(*(seen_as(client, vm_id, "paused", 120) for vm_id in ids))
        filler.unlink()
        room = time.monotonic()
        seen["room"] = await asyncio.gather(*(seen_as(client, vm_id, "running", 120) for vm_id in ids))
        seen["seconds"] = round(time.monotonic() - room, 1)
        await asyncio.sleep(20)  # the guests write what waited
        seen["boot_later"] = await boot_ids(client, ids)
        seen["state_later"] = [(await seen_as(client, vm_id, "running"))["state"] for vm_id in ids]
        for vm_id in ids:
            await client.delete_vm(vm_id)
    return seen


def main() -> None:
    site = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m", "tmpfs", str(site.work / "fc")], check=True)
    site.answer(scenario)


if __name__ == "__main__":
    main()
