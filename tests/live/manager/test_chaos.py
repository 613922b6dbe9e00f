"""Random requests, agents that disconnect and return, leaders that die. Every VM ends in its desired state."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.hosts import Heartbeat, HostCapacity
from nqrust.contract.vms import DesiredState, StopRequest, VmCreate
from nqrust.manager.vms import restarts
from nqrust.manager.work import diff
from nqrust.manager.work.reconciler import Reconciler

WISHES = int(os.environ.get("NQR_CHAOS_WISHES", "30"))
MANY = max(80, WISHES)


@pytest.mark.parametrize("wishes", [WISHES, pytest.param(MANY, marks=pytest.mark.matrix, id="many")])
async def test_vms_reach_their_desired_state_after_chaos(manager: Any, monkeypatch: Any, wishes: int) -> None:
    seed = int(os.environ.get("NQR_CHAOS_SEED", random.randrange(10**6)))
    print("NQR_CHAOS_SEED", seed)
    chance = random.Random(seed)
    monkeypatch.setattr(diff, "RETRY_FAILED_AFTER", diff.timedelta(0))
    monkeypatch.setattr(restarts, "FIRST_PAUSE", diff.timedelta(0))
    agents = []
    hosts = []
    for number in range(2):
        joined, agent, client = await manager.host(f"h{number}", first=f"10.0.0.{10 + number * 100}")
        agents.append(agent)
        hosts.append((joined.host_id, client))

    async def heartbeats() -> None:
        beat = Heartbeat(version="1", boot_id="boot-1", capacity=HostCapacity(cpus=8, memory_mib=8192))
        while True:
            for host_id, client in hosts:
                await client.send(calls.heartbeat(host_id, beat))
            await asyncio.sleep(5)

    beating = asyncio.create_task(heartbeats())
    reconciler = Reconciler(manager.core)

    async def wish(number: int) -> None:
        name = f"vm{chance.randrange(8)}"
        admin = manager.admin
        kind = chance.choice(["create", "create", "start", "stop", "pause", "resume", "restart", "delete"])
        try:
            if kind == "create":
                await admin.send(calls.create_vm(VmCreate(name=name, image="tiny", memory_mib=64, start=chance.random() < 0.8)))
            elif kind in ("stop", "restart"):
                await admin.send(getattr(calls, f"{kind}_vm")(name, StopRequest(timeout_seconds=0)))
            elif kind == "delete":
                await admin.send(calls.delete_vm(name, force=chance.random() < 0.2))
            else:
                await admin.send(getattr(calls, f"{kind}_vm")(name))
        except Refused as refused:
            assert refused.status in (404, 409), (kind, refused)

    async def trouble() -> None:
        kind = chance.randrange(6)
        agent = chance.choice(agents)
        if kind == 0:
            agent.away = not agent.away
        elif kind == 1:
            agent.refuse = None if agent.refuse else (500, "a bad day")
        elif kind == 2 and agent.vms:
            chance.choice(list(agent.vms.values())).state = chance.choice(["failed", "stopped"])
        elif kind == 3:
            async with manager.core.db.transaction() as session:
                await session.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'nqrust-manager-leader' AND datname = current_database()"
                    )
                )
        elif kind == 4:
            await reconciler.once()

    for number in range(wishes):
        await wish(number)
        if chance.random() < 0.3:
            await trouble()
        await asyncio.sleep(chance.random() * 0.05)

    for agent in agents:
        agent.away, agent.refuse = False, None
    for _ in range(120):
        await asyncio.sleep(0.5)
        async with manager.core.db.transaction() as session:
            await session.execute(text("UPDATE operations SET not_before = now() WHERE state = 'pending'"))
            open_ones = await session.scalar(text("SELECT count(*) FROM operations WHERE state IN ('pending', 'running')"))
        decided = await reconciler.once() if not open_ones else []
        if not open_ones and not decided:
            break
    else:
        raise AssertionError(f"it does not come to rest: {open_ones} operations open, decided {decided}")

    beating.cancel()
    there = {vm_id: vm.state for agent in agents for vm_id, vm in agent.vms.items() if vm.state != "failed"}
    everywhere = [vm_id for agent in agents for vm_id in agent.vms]
    assert len(everywhere) == len(set(everywhere)), "a VM is on one host only"
    for vm in (await manager.admin.send(calls.list_vms())).items:
        if vm.state.value == "failed":
            assert vm.error, vm
            continue
        assert vm.state.value == vm.desired_state.value, vm
        if vm.desired_state in (DesiredState.running, DesiredState.paused):
            assert there[vm.id] == vm.state.value, vm
        else:
            assert there.get(vm.id, "stopped") == "stopped", vm
        there.pop(vm.id, None)
    known = {vm.id for vm in (await manager.admin.send(calls.list_vms())).items}
    assert {vm_id for vm_id in everywhere if vm_id not in known} == set(), "nothing is left of what was deleted"
