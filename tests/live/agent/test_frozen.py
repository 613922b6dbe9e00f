"""VMs that a snapshot paused, and whose agent was killed meanwhile: they run again, and a pause of a person stays."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

import pytest

from nqrust.agent.api.app import Verbs
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.vmm.port import Capabilities
from nqrust.agent.vms import room
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest

from .conftest import VM, Bench, killed_at


@pytest.fixture(params=["pause", "resume"])
def killed(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """The agent was killed in a full snapshot, when it was to ask the VMM for this."""
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    bench.service.put(bench.spec())
    with killed_at(1, bench.vmm, request.param):
        Snapshots(bench.service).create(VM, "live", "r1")
    assert bench.service.status(VM).state == ("running" if request.param == "pause" else "paused")
    return bench


def look(bench: Bench) -> list[str]:
    return [vm for vm in room.frozen(bench.service) if room.thaw(bench.service, vm)]


def state(bench: Bench) -> str:
    return bench.service.status(VM).state


def test_the_upkeep_resumes_the_vm(killed: Bench) -> None:
    before = state(killed)
    assert look(killed) == ([VM] if before == "paused" else [])
    assert state(killed) == "running" and look(killed) == room.frozen(killed.service) == []


def test_the_agent_does_so_unless_a_request_for_the_vm_is_at_work(killed: Bench) -> None:
    async def looked() -> str:
        verbs = Verbs()
        keep = KeepUp(killed.service, verbs, *([MagicMock()] * 4))
        async with verbs.holding(VM):
            await keep.thaw_vms()
        assert room.frozen(killed.service) == [VM], "a snapshot may be at work"
        await keep.thaw_vms()
        return state(killed)

    assert asyncio.run(looked()) == "running" and room.frozen(killed.service) == []


def test_the_repeated_snapshot_resumes_the_vm(killed: Bench) -> None:
    assert Snapshots(killed.service).create(VM, "live", "r1").kind == "full"
    assert state(killed) == "running" and room.frozen(killed.service) == []


def test_a_pause_of_a_person_stays(killed: Bench) -> None:
    killed.service.pause(VM)
    assert look(killed) == [] and state(killed) == "paused"
    Snapshots(killed.service).create(VM, "live", "r1")
    assert look(killed) == [] and state(killed) == "paused", "as before the snapshot"
    assert killed.service.resume(VM).state == "running"


def test_a_pause_after_a_new_start_stays(killed: Bench) -> None:
    killed.service.stop(VM, StopRequest(force=True))
    killed.vmm.paused.clear()
    assert look(killed) == [], "it does not run"
    killed.service.put(killed.spec())
    killed.service.pause(VM)
    assert look(killed) == [] and state(killed) == "paused"


def test_a_snapshot_leaves_no_mark(bench: Bench) -> None:
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    bench.service.put(bench.spec())
    Snapshots(bench.service).create(VM, "live", "r1")
    assert state(bench) == "running" and room.frozen(bench.service) == []
