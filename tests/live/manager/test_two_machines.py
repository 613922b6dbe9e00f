"""Two machines with the identity of one host: a copy of its disk, or the original beside its restored image."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.hosts import Heartbeat
from nqrust.contract.vms import VmCreate, VmState
from nqrust.manager import clock
from nqrust.manager.core import boots
from nqrust.manager.store.tables import Host
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


class Site:
    """A host with the running VM db1, and a copy of its disk that is not on yet."""

    def __init__(self, manager: Any, reconciler: Reconciler, host_body: Any) -> None:
        self.manager, self.reconciler, self._host_body = manager, reconciler, host_body

    async def build(self) -> Site:
        self.host, self.original, self.as_agent = await self.manager.host()
        await self.manager.admin.send(calls.create_vm(VmCreate(name="db1", image="tiny")))
        self.vm = await self.manager.until("db1", "running")
        self.copy = self.manager.agents.at("http://copy.test:19090", "")
        self.copy.host_id, self.copy.boot_id = self.host.host_id, "boot-2"
        ended = {"state": "failed", "exit_reason": "The VMM ended without an exit status", "pids": []}
        for vm_id, status in self.original.vms.items():
            self.copy.vms[vm_id] = status.model_copy(update=ended)
            self.copy.specs[vm_id] = self.original.specs[vm_id].model_copy()
        return self

    async def registers(self, url: str, boot_id: str) -> None:
        body = self._host_body("h1", url=url)
        body.boot_id = boot_id
        await self.as_agent.send(calls.register(body))

    async def beats(self, boot_id: str) -> None:
        capacity = {"cpus": 4, "memory_mib": 8192}
        beat = Heartbeat(version="1", boot_id=boot_id, capacity=capacity)
        await self.as_agent.send(calls.heartbeat(self.host.host_id, beat))

    async def refused(self, boot_id: str) -> Refused:
        with pytest.raises(Refused) as error:
            await self.beats(boot_id)
        return error.value

    async def passes(self) -> None:
        for _ in range(3):
            await self.reconciler.once()

    async def later(self, seconds: float) -> None:
        """All that the manager remembers of the host happened so much earlier."""
        self.manager.core.started -= seconds
        async with self.manager.core.db.transaction() as session:
            host = await session.scalar(select(Host))
            known, past = boots.of(host, clock.now()), timedelta(seconds=seconds)
            times = {name: at and at - past for name, at in known if name.endswith("_at")}
            host.boots = known.model_copy(update=times).model_dump(mode="json")
            await session.execute(
                text("UPDATE hosts SET last_seen_at = last_seen_at - make_interval(secs => :s)"), {"s": seconds}
            )

    async def shown(self) -> Any:
        return await self.manager.admin.send(calls.get_host("h1"))

    async def events(self) -> list[str]:
        return [event.reason for event in (await self.manager.admin.send(calls.list_events(subject="h1"))).items]

    def runs(self, agent: Any) -> bool:
        return bool(agent.vms[self.vm.id].state == "running")


@pytest.fixture()
async def site(manager: Any, reconciler: Reconciler, host_body: Any) -> Site:
    found = await Site(manager, reconciler, host_body).build()
    await found.later(3600)
    await found.beats("boot-1")
    return found


COPY, ORIGINAL = "http://copy.test:19090", "http://h1.test:19090"


async def test_a_copy_of_a_host_starts_none_of_its_vms(site: Site) -> None:
    await site.registers(COPY, "boot-2")
    await site.passes()
    assert not site.runs(site.copy), "the original may still send a heartbeat"
    error = await site.refused("boot-1")
    assert (error.status, error.code) == (409, "NQR-API-153") and COPY in str(error)
    await site.later(3600)
    await site.beats("boot-2")
    await site.passes()
    assert site.runs(site.original) and not site.runs(site.copy)
    assert site.copy.calls == site.copy.calls[:0], "the manager asks it nothing"
    shown = await site.shown()
    assert shown.conflict.startswith(f"Two machines report as host h1: one at {COPY} and one from ")
    assert shown.conflict.endswith(boots.CURE)
    assert (await site.events()).count("HostConflict") == 1
    assert (await site.manager.admin.send(calls.get_vm("db1"))).state is VmState.running


async def test_a_user_starts_nothing_on_a_host_with_two_machines(site: Site) -> None:
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    await site.manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await site.manager.admin.send(calls.restart_vm("db1"))
    waits = await site.manager.until("db1", lambda vm: "Two machines" in vm.error)
    assert waits.error.endswith("The manager will try again.")
    assert not site.runs(site.copy) and site.runs(site.original)
    assert {vm for verb, vm in site.copy.calls if verb == "put"} == set()


async def test_the_repaired_original_beside_its_restored_image_starts_nothing(site: Site) -> None:
    """The original was off when the image was restored, so its VMs run on the new machine. It then boots once more."""
    await site.later(600)
    site.original.vms[site.vm.id].state = "failed"
    await site.registers(COPY, "boot-2")
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.copy)
    await site.later(600)
    await site.beats("boot-2")
    site.original.boot_id = "boot-3"
    await site.registers(ORIGINAL, "boot-3")
    await site.passes()
    await site.refused("boot-2")
    await site.later(60)
    await site.passes()
    assert site.runs(site.copy) and not site.runs(site.original)
    assert "HostConflict" in await site.events()


async def test_the_copy_stays_if_the_original_is_turned_off(site: Site) -> None:
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    site.original.vms[site.vm.id].state = "failed"
    await site.later(10)
    await site.registers(COPY, "boot-2")
    await site.passes()
    assert (await site.shown()).conflict and not site.runs(site.copy), "the other one may still send a heartbeat"
    await site.later(boots.ALONE.seconds)
    await site.beats("boot-2")
    assert (await site.shown()).conflict == ""
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.copy)
    assert "HostConflictEnded" in await site.events()


async def test_silence_alone_ends_no_conflict(site: Site) -> None:
    """The original may be cut off, and run its VMs."""
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    await site.later(3600)
    await site.beats("boot-2")
    await site.passes()
    assert (await site.shown()).conflict and not site.runs(site.copy)
    await site.registers(COPY, "boot-2")
    assert (await site.shown()).conflict == ""


async def test_the_original_stays_if_the_copy_is_turned_off(site: Site) -> None:
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    await site.later(10)
    await site.registers(ORIGINAL, "boot-1")
    assert (await site.shown()).conflict.startswith(f"Two machines report as host h1: one at {ORIGINAL} and one from copy.test.")
    await site.later(boots.ALONE.seconds)
    await site.beats("boot-1")
    site.original.calls.clear()
    await site.passes()
    shown = await site.shown()
    assert (shown.conflict, shown.url, shown.boot_id) == ("", ORIGINAL, "boot-1")
    assert {verb for verb, _ in site.original.calls} == {"inventory"}, "its VM runs on"
    assert (await site.events()).count("HostRebooted") == 1, "only that of the copy"


async def test_an_agents_start_does_not_end_a_conflict_while_the_other_machine_reports(site: Site) -> None:
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    await site.registers(ORIGINAL, "boot-1")
    assert (await site.refused("boot-2")).code == "NQR-API-153"
    await site.later(3600)
    await site.beats("boot-1")
    await site.passes()
    assert (await site.shown()).conflict
    assert not site.runs(site.copy)


async def test_an_agent_that_starts_beside_its_copy_is_found(site: Site) -> None:
    """It was cut off while the copy took its place, and registers before its first heartbeat."""
    await site.registers(COPY, "boot-2")
    await site.later(600)
    await site.passes()
    await site.manager.until("db1", "running")
    await site.beats("boot-2")
    site.original.vms[site.vm.id].state = "failed"
    await site.registers(ORIGINAL, "boot-1")
    await site.passes()
    await site.refused("boot-2")
    await site.later(3600)
    await site.passes()
    assert (await site.shown()).conflict and not site.runs(site.original)


async def test_a_replaced_machine_is_no_second_one(site: Site, host_body: Any) -> None:
    await site.registers(COPY, "boot-2")
    await site.refused("boot-1")
    await site.later(600)
    token = (await site.manager.admin.send(calls.join_token("h1", replace=True))).token
    await site.manager.client(token).send(calls.register(host_body("h1")))
    assert (await site.shown()).conflict == ""
    with pytest.raises(Refused) as error:
        await site.beats("boot-2")
    assert error.value.status == 401


def boots_again(site: Site) -> None:
    site.original.boot_id = "boot-2"
    site.original.vms[site.vm.id].state = "failed"


async def test_a_reboot_waits_until_a_second_machine_would_have_reported(site: Site) -> None:
    boots_again(site)
    await site.passes()
    assert not site.runs(site.original), "its agent has not registered yet"
    await site.registers(ORIGINAL, "boot-2")
    await site.passes()
    assert not site.runs(site.original)
    await site.later(boots.QUIET.seconds)
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.original)
    assert (await site.shown()).conflict == ""


async def test_a_long_reboot_waits_no_more(site: Site) -> None:
    boots_again(site)
    await site.later(boots.QUIET.seconds)
    await site.registers(ORIGINAL, "boot-2")
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.original)


async def test_the_managers_own_machine_waits_for_nothing_after_a_reboot(site: Site) -> None:
    """No other machine has its loopback address."""
    here = "http://127.0.0.1:19090"
    await site.registers(here, "boot-1")
    agent = site.manager.agents.at(here, "")
    agent.vms, agent.specs, agent.host_id, agent.boot_id = site.original.vms, site.original.specs, site.host.host_id, "boot-2"
    agent.vms[site.vm.id].state = "failed"
    await site.registers(here, "boot-2")
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.original)


async def test_silence_before_the_manager_started_proves_nothing(site: Site) -> None:
    """The manager was down while the original sent its heartbeats."""
    await site.later(600)
    site.manager.core.started += 600 + 3600
    await site.registers(COPY, "boot-2")
    await site.passes()
    assert not site.runs(site.copy)
    assert (await site.refused("boot-1")).code == "NQR-API-153"


async def test_an_agent_that_starts_again_changes_nothing(site: Site) -> None:
    await site.registers(ORIGINAL, "boot-1")
    site.original.vms[site.vm.id].state = "failed"
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.original)
    assert "HostRebooted" not in await site.events()


def clock_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(hours=5)))


async def test_a_reboot_noted_while_the_clock_was_ahead_waits_no_longer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    boots_again(site)
    with monkeypatch.context() as patched:
        clock_is_ahead(patched)
        await site.beats("boot-1")
        await site.registers(ORIGINAL, "boot-2")
    await site.passes()
    assert not site.runs(site.original), "a second machine may still report"
    await site.beats("boot-2")
    await site.later(boots.QUIET.seconds)
    await site.beats("boot-2")
    await site.passes()
    await site.manager.until("db1", "running")
    assert site.runs(site.original)


@pytest.mark.parametrize("meanwhile", ["", "agent started", "original reported"])
async def test_a_conflict_of_a_clock_that_was_ahead_ends(site: Site, monkeypatch: pytest.MonkeyPatch, meanwhile: str) -> None:
    with monkeypatch.context() as patched:
        clock_is_ahead(patched)
        await site.registers(COPY, "boot-2")
        await site.refused("boot-1")
        if meanwhile == "agent started":
            await site.registers(COPY, "boot-2")
    if meanwhile == "original reported":
        await site.refused("boot-1")
        await site.later(3600)
        await site.beats("boot-2")
        assert (await site.shown()).conflict, "silence alone ends none"
    if meanwhile != "agent started":
        await site.registers(COPY, "boot-2")
    if meanwhile != "original reported":
        await site.beats("boot-2")
        assert (await site.shown()).conflict, "the original may still report"
        await site.later(boots.ALONE.seconds)
    await site.beats("boot-2")
    assert (await site.shown()).conflict == ""
