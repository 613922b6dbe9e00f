"""Runs in network and mount namespaces, started by tests/live/agent/test_features_live.py: snapshots of running VMs, rate limits, kept volumes.

vms_saved_and_limited.py IMAGE_FOLDER WORK_FOLDER     prints one JSON object of what was seen
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.machine_scripts.vms_on_a_bridge import A, B, Site, guest, typed, up

from nqrust.client.agent import AgentClient, AgentRefused
from nqrust.contract import names

KEPT = "web1-vdb-" + A
LIMITS = {"net_rx_kbit": 20_000, "net_tx_kbit": 10_000, "disk_kib": 40_960, "disk_iops": 900}


def tc(*words: str) -> Any:
    return json.loads(subprocess.run(["tc", "-j", "-s", *words], check=True, capture_output=True, text=True).stdout or "[]")


def buckets(vm_id: str) -> dict[str, list[int]]:
    """Device -> [bytes a second, bytes that passed] of its token bucket."""
    tap = names.tap_name(vm_id)
    found = {}
    for device in (tap, f"ifb{tap[3:]}"):
        if os.path.exists(f"/sys/class/net/{device}"):
            for qdisc in tc("qdisc", "show", "dev", device):
                if qdisc["kind"] == "tbf":
                    found[device[:3]] = [qdisc["options"]["rate"], qdisc["bytes"]]
    return found


def throttles(site: Site, vm_id: str) -> list[list[int]]:
    """Bytes and operations a second of each disk, as QEMU has them."""
    from nqrust.agent.vmm.qemu.qmp import Qmp

    with Qmp(f"{site.work}/fc/vms/{vm_id}/run/qmp.sock") as qmp:
        return [[disk["inserted"]["bps"], disk["inserted"]["iops"]] for disk in qmp.execute("query-block") if "inserted" in disk]


async def settle(client: AgentClient, vm_id: str) -> str:
    status = await client.get_vm(vm_id)
    return status.state if status else "gone"


async def saved(site: Site, client: AgentClient) -> dict[str, Any]:
    """A counter in the guest's memory and a file on its disk tell whether it went on or started anew."""
    seen: dict[str, Any] = {}
    volumes = [{"device": "vdb", "size_mib": 16, "keep": True}]
    spec = site.spec(A, "web1", "10.0.0.20", volumes=volumes, rate_limits=LIMITS)
    started = await client.put_vm(spec)
    up_once = await guest(client, A)
    assert up_once.guest is not None
    seen["buckets"], seen["throttles"] = buckets(A), await asyncio.to_thread(throttles, site, A)
    # Hidden names: what is on the console is an answer, not an echo.
    await typed(
        client,
        A,
        "root",
        "mkdir -p /run/k; echo in-memory-$((40+2)) > /dev/shm/m || mount -t tmpfs t /run/k",
        "echo in-memory-$((40+2)) > /run/k/m; echo on-volume-$((1+1)) > /dev/vdb; sync",
    )
    await client.create_snapshot(A, "live")
    seen["after_snapshot"] = [await settle(client, A), (await client.get_vm(A) or started).pids == started.pids]
    await client.pause_vm(A)
    await client.create_snapshot(A, "frozen")
    seen["frozen_stays"] = await settle(client, A)
    await client.create_snapshot(A, "frozen-again")
    seen["frozen_twice"] = await settle(client, A)
    seen["resumed"] = (await client.resume_vm(A)).state
    await typed(client, A, "rm /run/k/m; echo spoiled > /dev/vdb; sync")
    try:
        await client.restore_snapshot(A, "live")
    except AgentRefused as error:
        seen["restore_of_running"] = error.problem.code
    await client.stop_vm(A)
    restored = await client.restore_snapshot(A, "live")
    seen["restored"] = [restored.state, restored.pids != started.pids]
    shown = await typed(client, A, "cat /run/k/m; head -n1 /dev/vdb", wait=3)
    seen["went_on"] = ["in-memory-42" in shown, "on-volume-2" in shown]
    again = await guest(client, A)
    seen["same_boot"] = again.guest is not None and again.guest.boot_id == up_once.guest.boot_id
    seen["sizes"] = {path.name: path.stat().st_size for path in (site.work / "fc" / "vms" / A / "snapshots" / "live").iterdir()}
    await client.stop_vm(A, None)
    return seen


async def limited(site: Site, client: AgentClient) -> dict[str, Any]:
    """Changed while it runs, then taken away."""
    seen: dict[str, Any] = {}
    volumes = [{"device": "vdb", "size_mib": 16, "keep": True}]
    await client.put_vm(site.spec(A, "web1", "10.0.0.20", volumes=volumes))
    await guest(client, A)
    seen["restored_to_none"] = [buckets(A), await asyncio.to_thread(throttles, site, A)]
    for name, limits in (("on", LIMITS), ("less", {"net_rx_kbit": 5_000, "disk_iops": 100}), ("off", {})):
        await client.put_vm(site.spec(A, "web1", "10.0.0.20", volumes=volumes, rate_limits=limits, run=False))
        seen[name] = [{kind: rate for kind, (rate, _) in buckets(A).items()}, await asyncio.to_thread(throttles, site, A)]
    await client.put_vm(site.spec(A, "web1", "10.0.0.20", volumes=volumes, rate_limits=LIMITS, run=False))
    await client.stop_vm(A)
    seen["left"] = [name for name in os.listdir("/sys/class/net") if name.startswith("tap") or len(name) == 14]
    return seen


async def kept(site: Site, client: AgentClient) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    await client.delete_vm(A)
    seen["kept"] = [volume.model_dump() for volume in (await client.inventory()).volumes or []]
    attached = [{"device": "vdb", "size_mib": 16, "keep": True, "name": KEPT}, {"device": "vdc", "size_mib": 24}]
    await client.put_vm(site.spec(B, "web2", "10.0.0.21", volumes=attached))
    await guest(client, B)
    seen["attached"] = (await client.inventory()).volumes
    shown = await typed(client, B, "root", "head -n1 /dev/vdb", wait=3)
    seen["data"] = "on-volume-2" in shown
    seen["between"] = await changed(site, client, attached)
    await client.delete_vm(B)
    seen["kept_again"] = [volume.name for volume in (await client.inventory()).volumes or []]
    await client.delete_volume(KEPT)
    seen["removed"] = (await client.inventory()).volumes
    return seen


async def changed(site: Site, client: AgentClient, before: list[dict[str, Any]]) -> dict[str, Any]:
    """The first of two goes and another comes. What the guest makes of that: names, sizes (in sectors), data, the NIC's slot."""
    look = "for d in /sys/block/vd?; do echo [${d##*/}=$(cat $d/size)]; done; echo nic-$(readlink -f /sys/class/net/eth0/device)."
    shown = await typed(client, B, "echo on-c-$((1+1)) > /dev/vdc; sync", look, wait=3)
    seen: dict[str, Any] = {"first": re.findall(r"\[(vd.=\d+)\]", shown)}
    slot = re.findall(r"nic-(/\S+)\.", shown)
    volumes = [before[1], {"device": "vde", "size_mib": 32}]
    spec = site.spec(
        B, "web2", "10.0.0.21", volumes=volumes, generation=2, attached=["vde"], detached=[{**before[0], "data": "keep"}]
    )
    try:
        await client.put_vm(spec)
    except AgentRefused as error:
        seen["while_it_runs"] = error.problem.code
    await client.stop_vm(B)
    await client.put_vm(spec)
    await guest(client, B)
    seen["free"] = [volume.name for volume in (await client.inventory()).volumes or []]
    shown = await typed(client, B, "root", look, "head -n1 /dev/vdc; cat /proc/partitions", wait=3)
    seen["then"] = re.findall(r"\[(vd.=\d+)\]", shown)
    seen["same_nic"] = bool(slot) and re.findall(r"nic-(/\S+)\.", shown) == slot
    seen["data"] = "on-c-2" in shown
    seen["partitions"] = re.findall(r"\d (vd.)\s", shown.rpartition("#blocks")[2])
    await client.create_snapshot(B, "live")
    await client.stop_vm(B)
    seen["restored"] = (await client.restore_snapshot(B, "live")).state
    return seen


async def scenario(site: Site) -> dict[str, Any]:
    site.start_agent()
    await up(site)
    async with site.client() as client:
        return {"saved": await saved(site, client), "limited": await limited(site, client), "kept": await kept(site, client)}


def main() -> None:
    site = Site(Path(sys.argv[1]), Path(sys.argv[2]))
    site.answer(scenario)


if __name__ == "__main__":
    main()
