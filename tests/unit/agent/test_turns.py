"""The upkeep of VMs whose VMMs are hostile, or at work for a request."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from tests.unit.agent.test_upkeep import agent

from nqrust.agent import keep_up
from nqrust.agent.api.app import Verbs
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.vms import room, upkeep


def test_vmms_that_keep_their_threads_waiting_hold_neither_upkeep_nor_other_vms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each VMM that claims to have no room took 7 seconds, one after the other. Here a hundred take 0.2 seconds each."""
    hostile, tried = [f"a{number:02}" for number in range(100)], list[str]()

    def go_on(service: Any, vm_id: str) -> bool:
        tried.append(vm_id)
        if vm_id in hostile:
            time.sleep(0.2)
        return vm_id not in hostile

    monkeypatch.setattr(room, "may_wait", lambda service: [*hostile, "web1"])
    monkeypatch.setattr(room, "go_on", go_on)
    monkeypatch.setattr(keep_up, "_LONGEST_ROUND", 0.3)
    made = agent("nat")

    async def rounds() -> None:
        keep = KeepUp(made.service, Verbs(threads=2), made.rules, made.sources, made.relay, lambda: None)
        for _ in range(10):
            began = time.monotonic()
            await keep.continue_vms()
            assert time.monotonic() - began < 5
            if "web1" in tried:
                return

    with structlog.testing.capture_logs() as told:
        asyncio.run(rounds())
    assert [entry["vm"] for entry in told] == ["web1"]
    before = tried[: tried.index("web1")]
    assert len(before) == len(set(before)), "each gets one turn before any gets a second"


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
