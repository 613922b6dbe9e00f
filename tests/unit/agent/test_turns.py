"""The upkeep of VMs whose VMMs are hostile, or at work for a request."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from tests.unit.agent.test_upkeep import agent

from nqrust.agent.api.app import Verbs
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.vms import upkeep


def test_a_jail_that_was_left_open_is_sealed_unless_a_request_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sealed = agent("nat"), list[str]()
    monkeypatch.setattr(upkeep, "open_jails", lambda service: ["a1", "a2"])
    monkeypatch.setattr(upkeep, "seal_jail", lambda service, vm_id: sealed.append(vm_id) or True)

    async def look() -> None:
        verbs = Verbs(threads=2)
        keep = KeepUp(made.service, verbs, made.rules, made.sources, made.relay, lambda: None)
        assert keep.steps[0] == keep.seal_jails, "the agent does it at its start, before it waits for a VMM"
        async with verbs.holding("a1"):
            await asyncio.wait_for(keep.seal_jails(), 5)
        assert sealed == ["a2"]
        await keep.seal_jails()

    with structlog.testing.capture_logs() as told:
        asyncio.run(look())
    assert sealed == ["a2", "a1", "a2"] and {entry["event"] for entry in told} == {"jail.sealed"}
