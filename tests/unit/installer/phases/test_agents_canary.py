"""The canary of a worker node: no VM has its address, and nqr can tell canaries from users' VMs."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG, canary_owner
from nqrust.host.children import this_process
from nqrust.installer.proofs.through_agent import AgentsCanary


@pytest.mark.parametrize(
    ("taken", "address"),
    [((), "10.0.0.12"), (("10.0.0.12", None), "10.0.0.11"), (("10.0.0.10", "10.0.0.11", "10.0.0.12"), "10.0.0.12")],
    ids=["the last", "the last is a VM's", "none is free"],
)
def test_the_last_free_address_is_taken(monkeypatch: pytest.MonkeyPatch, taken: tuple[str | None, ...], address: str) -> None:
    inventory = SimpleNamespace(vms=[SimpleNamespace(ip=one) for one in taken])
    monkeypatch.setattr(AgentsCanary, "_ask", lambda self, verb: inventory)
    assert AgentsCanary(FakeHost.debian12(), "http://a", "/t", "/i", ("10.0.0.10", "10.0.0.12"))._free_address() == address


def test_agents_canary_on_a_bridged_network_picks_no_address() -> None:
    assert AgentsCanary(FakeHost.debian12(), "http://a", "/t", "/i", None)._free_address() is None


class Agent:
    """The agent, as far as the canary uses it."""

    def __init__(self, *vms: SimpleNamespace) -> None:
        self.vms, self.deleted = list(vms), list[str]()

    async def inventory(self) -> SimpleNamespace:
        return SimpleNamespace(vms=self.vms)

    async def put_vm(self, spec: Any) -> None:
        self.vms.append(spec)

    async def delete_vm(self, id: str) -> None:
        self.deleted.append(id)


def bird(monkeypatch: pytest.MonkeyPatch, agent: Agent) -> AgentsCanary:
    monkeypatch.setattr(AgentsCanary, "_ask", lambda self, verb: asyncio.run(verb(agent)))
    host = FakeHost.debian12()
    blob = {"file": "f", "size": 1, "sha256": "0" * 64}
    image = {"name": "tiny", "created_at": "2026-01-01T00:00:00Z", "rootfs": blob, "kernel": blob}
    host.put("/i/image.json", json.dumps(image))
    return AgentsCanary(host, "http://a", "/t", "/i", None)


def test_agents_canary_carries_its_owner_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    bird(monkeypatch, agent).start()
    (made,) = agent.vms
    assert canary_owner(made.name, made.tags) == (this_process().pid, this_process().since)


def test_agent_phase_removes_only_canaries_of_dead_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{CANARY_PREFIX}{this_process().pid}-7"  # another process had that number
    agent = Agent(
        SimpleNamespace(id="forsaken", name=name, tags=[CANARY_TAG]),
        SimpleNamespace(id="a user's", name=name, tags=["web"]),
        SimpleNamespace(id="web1", name="web1", tags=[CANARY_TAG]),
    )
    assert bird(monkeypatch, agent).clear() == ""
    assert agent.deleted == ["forsaken"]
