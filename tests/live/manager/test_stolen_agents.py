"""One host that somebody took over: what it reports, and what it does not answer, leaves the other hosts alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nqrust.client import calls
from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG
from nqrust.contract.vms import VmCreate
from nqrust.manager.work import turns
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


async def _never(*_: Any) -> None:
    await asyncio.sleep(3600)


async def test_host_that_never_answers_does_not_stop_the_reconciler(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PASS_SECONDS", 0.5)
    _, stolen, _ = await manager.host("h1")
    for number in range(100):
        stolen.alive(f"c{number}", f"{CANARY_PREFIX}1-{number}", started_ago=3600).tags = [CANARY_TAG]
    stolen.delete_vm = _never
    await asyncio.wait_for(reconciler.once(), 30)
    _, honest, _ = await manager.host("h2", first="10.0.0.20")
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", host="h2")))
    vm = await manager.until("web2", "running")
    honest.vms[vm.id].state = "failed"
    await asyncio.wait_for(reconciler.once(), 30)
    await manager.until("web2", "running")
    assert len(await _canaries_removed(manager)) == 1
    await reconciler._turns.close()


async def _canaries_removed(manager: Any) -> list[Any]:
    events = (await manager.admin.send(calls.list_events(subject="h1"))).items
    return [event for event in events if event.reason == "CanaryRemoved"]
