"""A VM from creation to deletion, through the API, with simulated agents and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.client.errors import Refused, WaitFailed
from nqrust.contract.agent import GuestReportForward
from nqrust.contract.auth import Role, TokenCreate, UserCreate
from nqrust.contract.vms import GuestReport, GuestUser, NetworkConfig, StopRequest, VmCreate, VmState, VolumeCreate


async def test_a_vm_is_created_started_reported_stopped_and_deleted(manager: Any) -> None:
    joined, agent, agent_client = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", memory_mib=256)))
    assert vm.state is VmState.pending
    vm = await manager.until("web1", "running")
    assert (vm.host, vm.ip, vm.error) == ("h1", "10.0.0.10", "")
    spec = agent.specs[vm.id]
    assert (spec.mac, spec.tap, spec.ip, spec.image.name) == (vm.mac, vm.tap, vm.ip, "tiny")
    assert spec.guest_token.startswith("nqr_")

    report = GuestReport(ip=vm.ip, boot_id="guest-boot", uptime_seconds=1)
    forwarded = GuestReportForward(report=report, at=datetime.now(timezone.utc))
    await agent_client.send(calls.forward_guest(joined.host_id, vm.id, forwarded))
    vm = await manager.until("web1", "guest_up")
    assert vm.boot_id == "guest-boot" and vm.guest.ip == vm.ip

    for number in range(100):
        report = GuestReport(ip=vm.ip, boot_id=f"boot-{number}")
        told = GuestReportForward(report=report, at=datetime.now(timezone.utc))
        await agent_client.send(calls.forward_guest(joined.host_id, vm.id, told))
    assert (await manager.admin.send(calls.get_vm("web1"))).boot_id == "boot-99"
    events = [event.reason for event in (await manager.admin.send(calls.vm_events("web1"))).items]
    assert events.count("GuestRebooted") == 1, "a guest can name a new boot with each report"
    manager.core.reboots[vm.id] -= timedelta(minutes=1)
    later = GuestReportForward(report=GuestReport(ip=vm.ip, boot_id="later"), at=datetime.now(timezone.utc))
    await agent_client.send(calls.forward_guest(joined.host_id, vm.id, later))
    events = [event.reason for event in (await manager.admin.send(calls.vm_events("web1"))).items]
    assert events.count("GuestRebooted") == 2

    await manager.admin.send(calls.stop_vm("web1"))
    vm = await manager.until("web1", "stopped")
    assert vm.boot_id is None and vm.guest_up_at is None
    await manager.admin.send(calls.start_vm("web1"))
    assert (await manager.until("web1", "running")).ip == "10.0.0.10"
    await manager.admin.send(calls.delete_vm("web1"))
    assert await manager.until("web1", "deleted") is None
    assert agent.vms == {}
    reasons = [event.reason for event in (await manager.admin.send(calls.list_events(subject="web1"))).items]
    assert reasons[0] == "Deleted" and {"VmCreated", "VmScheduled", "Started", "GuestUp", "Stopped"} <= set(reasons)


async def test_vm_is_paused_resumed_and_restarted(manager: Any) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.resume_vm("web1")) if False else await manager.admin.send(calls.pause_vm("nothing"))
    assert refused.value.status == 404
    vm = await manager.until("web1", "running")
    await manager.admin.send(calls.pause_vm("web1"))
    await manager.until("web1", "paused")
    await manager.admin.send(calls.resume_vm("web1"))
    await manager.until("web1", "running")
    before = len([c for c in agent.calls if c[0] == "put"])
    await manager.admin.send(calls.restart_vm("web1", StopRequest(timeout_seconds=1)))
    await manager.until("web1", lambda v: v.state is VmState.running and v.generation == v.generation)
    await manager.until("web1", lambda v: len([c for c in agent.calls if c[0] == "put"]) > before)
    assert ("stop", vm.id) in agent.calls


@pytest.mark.parametrize("then", ["restart_vm", "start_vm"])
async def test_a_restart_that_has_not_begun_is_not_lost(manager: Any, then: str) -> None:
    """A client that got no answer asks again; one that is in a hurry says start."""
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    agent.away = True
    await manager.admin.send(calls.restart_vm("web1", StopRequest(timeout_seconds=0)))
    await manager.until("web1", lambda v: "try again" in v.error)
    await manager.admin.send(getattr(calls, then)("web1"))
    agent.away = False
    agent.calls.clear()
    await manager.until("web1", "running")
    assert [verb for verb, subject in agent.calls if subject == vm.id] == ["stop", "put"]


async def test_restart_starts_a_vm_its_host_never_had(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    agent.vms.clear()
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET made = false"))
    await manager.admin.send(calls.restart_vm("web1", StopRequest(timeout_seconds=0)))
    await manager.until("web1", "running")
    assert vm.id in agent.vms


async def test_vm_created_stopped_starts_on_request(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="cold", image="tiny", start=False)))
    vm = await manager.until("cold", "stopped")
    assert agent.specs[vm.id].run is False
    await manager.admin.send(calls.start_vm("cold"))
    await manager.until("cold", "running")
    assert agent.specs[vm.id].run is True


async def test_vm_without_a_host_starts_when_a_host_joins(manager: Any) -> None:
    await manager.admin.send(calls.create_vm(VmCreate(name="early", image="tiny")))
    vm = await manager.until("early", lambda v: bool(v.error))
    assert "No host has registered" in vm.error
    await manager.host()
    await manager.until("early", "running")


async def test_a_vm_that_fits_nowhere_once_its_turn_comes_fails_with_the_reason(manager: Any) -> None:
    await manager.admin.send(calls.create_vm(VmCreate(name="huge", image="tiny", memory_mib=4096)))
    await manager.host(memory_mib=1024)
    with pytest.raises(WaitFailed, match="Not enough memory: needs 4 GiB; host h1 has 704 MiB free"):
        await manager.until("huge", "running")


async def test_manager_retries_an_unreachable_agent(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.away = True
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    vm = await manager.until("web1", lambda v: "try again" in v.error)
    assert vm.state is VmState.starting
    agent.away = False
    assert (await manager.until("web1", "running")).error == ""


async def test_vm_shows_the_error_of_an_agent_refusal(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.refuse = (422, "no VMM here")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    with pytest.raises(WaitFailed, match="No VMM here"):
        await manager.until("web1", "running")
    agent.refuse = None
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", "deleted")


async def test_delete_while_it_is_being_created_ends_deleted(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.hold = asyncio.Event()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", lambda v: ("put", vm.id) in agent.calls)
    await manager.admin.send(calls.delete_vm("web1"))
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.start_vm("web1"))
    assert refused.value.status == 409
    agent.hold.set()
    await manager.until("web1", "deleted")
    assert agent.vms == {}


async def test_idempotency_key_belongs_to_one_token_and_not_to_its_name(manager: Any) -> None:
    await manager.host()
    for username in ("ann", "bob"):
        await manager.admin.send(calls.create_user(UserCreate(username=username, password="a long password", role=Role.admin)))
        client = manager.client()
        await client.login(username, "a long password")
        token = await client.send(calls.create_token(TokenCreate(name="ci", role=Role.operator)))
        of_token = manager.client(token.token)
        made = await of_token.send(calls.create_vm(VmCreate(name=f"of-{username}", image="tiny"), idempotency_key="1"))
        again = await of_token.send(calls.create_vm(VmCreate(name=f"of-{username}", image="tiny"), idempotency_key="1"))
        assert (made.name, again.id) == (f"of-{username}", made.id)


async def test_repeated_idempotency_key_creates_one_vm(manager: Any) -> None:
    await manager.host()
    wanted = VmCreate(name="web1", image="tiny")
    first = await manager.admin.send(calls.create_vm(wanted, idempotency_key="k1"))
    again = await manager.admin.send(calls.create_vm(wanted, idempotency_key="k1"))
    assert first.id == again.id
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny"), idempotency_key="k1"))
    assert (refused.value.status, refused.value.code) == (422, "NQR-API-110")
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(wanted))
    assert refused.value.status == 409


async def test_simultaneous_creates_get_distinct_addresses(manager: Any) -> None:
    await manager.host()
    names = [f"vm{i}" for i in range(20)]
    await asyncio.gather(*(manager.admin.send(calls.create_vm(VmCreate(name=n, image="tiny", memory_mib=64))) for n in names))
    vms = [await manager.until(n, "running") for n in names]
    assert len({vm.ip for vm in vms}) == 20


async def test_an_address_is_not_reused_at_once(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="a1", image="tiny")))
    first = await manager.until("a1", "running")
    await manager.admin.send(calls.delete_vm("a1"))
    await manager.until("a1", "deleted")
    await manager.admin.send(calls.create_vm(VmCreate(name="a2", image="tiny")))
    assert (await manager.until("a2", "running")).ip != first.ip


async def test_placement_honours_host_cordon_and_free_memory(manager: Any) -> None:
    await manager.host("small", memory_mib=2048)
    await manager.host("large", memory_mib=8192)
    await manager.admin.send(calls.create_vm(VmCreate(name="v1", image="tiny")))
    assert (await manager.until("v1", "running")).host == "large"
    await manager.admin.send(calls.create_vm(VmCreate(name="v2", image="tiny", host="small")))
    assert (await manager.until("v2", "running")).host == "small"
    await manager.admin.send(calls.cordon_host("large"))
    await manager.admin.send(calls.create_vm(VmCreate(name="v3", image="tiny")))
    assert (await manager.until("v3", "running")).host == "small"
    with pytest.raises(Refused):
        await manager.admin.send(calls.create_vm(VmCreate(name="v4", image="tiny", host="nowhere")))


async def test_drain_stops_and_uncordon_starts_again(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="v1", image="tiny")))
    await manager.until("v1", "running")
    await manager.admin.send(calls.drain_host("h1"))
    await manager.until("v1", "stopped")
    await manager.admin.send(calls.uncordon_host("h1"))
    await manager.until("v1", "running")


async def test_force_delete_does_not_wait_for_a_dead_host(manager: Any) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="v1", image="tiny")))
    await manager.until("v1", "running")
    agent.away = True
    await manager.admin.send(calls.delete_vm("v1", force=True))
    await manager.until("v1", "deleted")


async def test_list_filters_and_pages(manager: Any) -> None:
    await manager.host()
    for name, tags in (("a", ["web"]), ("b", ["db"]), ("c", ["web"])):
        await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", tags=tags, start=False)))
    assert [vm.name for vm in (await manager.admin.send(calls.list_vms(tag="web"))).items] == ["a", "c"]
    await manager.admin.send(calls.start_vm("a"))
    alone = await manager.until("a", "running")
    assert (await manager.admin.send(calls.list_vms())).items[0] == alone, "the list shows a VM as it is shown alone"
    page = await manager.admin.send(calls.list_vms(limit=1, offset=1))
    assert ([vm.name for vm in page.items], page.total) == (["b"], 3)


async def test_volumes_are_named_in_order_and_count_as_disk(manager: Any) -> None:
    _, agent, _ = await manager.host()
    wanted = VmCreate(name="db1", image="tiny", volumes=[VolumeCreate(size_mib=64, keep=True), VolumeCreate(size_mib=32)])
    vm = await manager.admin.send(calls.create_vm(wanted))
    assert [(v.device, v.size_mib, v.keep) for v in vm.volumes] == [("vdb", 64, True), ("vdc", 32, False)]
    await manager.until("db1", "running")
    assert agent.specs[vm.id].volumes == vm.volumes
    await manager.admin.send(calls.delete_vm("db1"))
    await manager.until("db1", "deleted")
    (told,) = [e for e in (await manager.admin.send(calls.list_events(subject="db1"))).items if e.reason == "Deleted"]
    assert f"Kept on host h1: db1-vdb-{vm.id}." in told.message
    with pytest.raises(Refused, match="Not enough disk"):
        await manager.admin.send(calls.create_vm(VmCreate(name="db2", image="tiny", volumes=[VolumeCreate(size_mib=10**7)])))


async def test_users_of_the_guest_are_shown_without_their_secrets(manager: Any) -> None:
    _, agent, _ = await manager.host()
    ana = GuestUser(
        name="ana",
        ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ana"],
        password_hash="$6$salt$abcdefghijkl",
    )
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", users=[ana])))
    alone = await manager.until("web1", "running")
    assert alone.users == ["ana"]
    assert agent.specs[vm.id].users == [ana]
    listed = (await manager.admin.send(calls.list_vms())).items[0]
    assert listed.users == ["ana"]
    assert "$6$" not in listed.model_dump_json()
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", users=[ana, ana])))
    assert refused.value.status == 422


async def test_network_configuration_from_the_host_is_recorded_and_shown(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.network_written = "DHCP, by netplan"
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False)))
    own = await manager.admin.send(
        calls.create_vm(VmCreate(name="own", image="tiny", start=False, network_config=NetworkConfig.image))
    )
    for name in ("web1", "own"):
        await manager.until(name, "stopped")
    assert (agent.specs[vm.id].network_config, agent.specs[own.id].network_config) == (NetworkConfig.dhcp, NetworkConfig.image)
    agent.network_written = ""  # as one from before it was told
    await manager.admin.send(calls.start_vm("web1"))
    shown = await manager.until("web1", "running")
    assert (shown.network_config, shown.network_written) == (NetworkConfig.dhcp, "DHCP, by netplan")
    listed = {
        one.name: (one.network_config.value, one.network_written) for one in (await manager.admin.send(calls.list_vms())).items
    }
    assert listed["web1"] == ("dhcp", "DHCP, by netplan") and listed["own"][0] == "image"
