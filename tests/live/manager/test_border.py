"""The manager refuses impossible requests at once: too large a size, invalid SSH keys, unusable images."""

from __future__ import annotations

from typing import Any

import pytest

from nqrust.client import calls
from nqrust.client.manager import Refused
from nqrust.contract.templates import TemplateCreate, TemplateSpec
from nqrust.contract.vms import GuestAccount, GuestUser, StopRequest, VmCreate, VmState, VolumeCreate

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann@laptop"


async def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as error:
        await call
    return error.value


async def test_request_larger_than_every_host_is_refused_at_once(manager: Any) -> None:
    await manager.host("vm", memory_mib=24 * 1024)
    error = await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", memory_mib=900 * 1024))))
    assert (error.status, error.code) == (409, "NQR-API-139")
    assert str(error) == "Not enough memory: needs 900 GiB; host vm has 23 GiB free."
    assert "nqr host ls" in error.cure
    error = await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", disk_mib=2**30))))
    assert error.code == "NQR-API-139" and "Not enough disk: needs 1048576 GiB; host vm has 976 GiB free." in str(error)
    volume = VolumeCreate(size_mib=60_000_000)
    error = await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False, volumes=[volume]))))
    assert error.code == "NQR-API-139"
    assert (await manager.admin.send(calls.list_vms())).total == 0, "nothing of them is on record"


async def test_vcpus_that_no_host_has_are_refused(manager: Any) -> None:
    await manager.host("vm")
    manager.core.settings = manager.core.settings.__class__(**{**manager.core.settings.__dict__, "vcpu_overcommit": 1.0})
    error = await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", vcpus=8))))
    assert str(error) == "Not enough vCPUs: needs 8; host vm has 4 free."


async def test_request_that_fits_an_offline_host_waits_and_a_larger_one_is_refused(manager: Any) -> None:
    from sqlalchemy import text

    await manager.host("vm", memory_mib=2048)
    manager.core.started -= 3600
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE hosts SET last_seen_at = now() - interval '1 hour'"))
    error = await refused(manager.admin.send(calls.create_vm(VmCreate(name="big", image="tiny", memory_mib=4096))))
    assert error.code == "NQR-API-139"
    waiting = await manager.admin.send(calls.create_vm(VmCreate(name="small", image="tiny", memory_mib=512)))
    assert waiting.state is VmState.pending


async def test_any_size_is_accepted_before_the_first_host_joins(manager: Any) -> None:
    assert (
        await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", memory_mib=900 * 1024)))
    ).state is VmState.pending


async def test_a_start_and_a_full_snapshot_need_room_too(manager: Any) -> None:
    await manager.host("vm", memory_mib=1024)
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", memory_mib=512)))
    await manager.until("web1", "running")
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await manager.until("web1", lambda vm: vm.observed_generation == vm.generation)
    await manager.admin.send(calls.stop_vm("web1", StopRequest(force=True)))
    await manager.until("web1", "stopped")
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", memory_mib=512)))
    await manager.until("web2", "running")
    for call in (manager.admin.send(calls.start_vm("web1")), manager.admin.send(calls.restore_snapshot("web1", "s1"))):
        error = await refused(call)
        assert error.code == "NQR-API-139" and "Not enough memory: needs 512 MiB; host vm has" in str(error)
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.stopped


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAA me@laptop",
        "not a key",
        f'command="/bin/sh" {KEY}',
        f"{KEY}\n{KEY}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
async def test_unusable_ssh_key_is_refused_in_every_request(manager: Any, key: str) -> None:
    ann = GuestAccount(name="ann", ssh_keys=[key])
    asked = [
        manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", ssh_keys=[KEY, key]))),
        manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", users=[GuestUser(name="ann", ssh_keys=[key])]))),
        manager.admin.send(calls.create_template(TemplateCreate(name="t1", image="tiny", ssh_keys=[key]))),
        manager.admin.send(calls.create_template(TemplateCreate(name="t1", image="tiny", users=[ann]))),
    ]
    for call in asked:
        error = await refused(call)
        assert (error.status, error.code) == (422, "NQR-API-140") and "type, the key" in error.cure
    await manager.admin.send(calls.create_template(TemplateCreate(name="t1", image="tiny", ssh_keys=[KEY])))
    assert (
        await refused(manager.admin.send(calls.replace_template("t1", TemplateSpec(image="tiny", users=[ann]))))
    ).code == "NQR-API-140"
    assert (await manager.admin.send(calls.create_vm(VmCreate(name="web1", template="t1")))).name == "web1"


async def test_template_cannot_bypass_the_size_limits(manager: Any) -> None:
    await manager.host("vm")
    await manager.admin.send(calls.create_template(TemplateCreate(name="huge", image="tiny", memory_mib=900 * 1024)))
    assert (await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", template="huge"))))).code == "NQR-API-139"


async def test_an_event_names_only_volumes_that_are_kept(manager: Any) -> None:
    """The event omits a volume that the host never created."""
    _, agent, _ = await manager.host("vm")
    agent.refuse = (422, "the image is broken")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", volumes=[VolumeCreate(size_mib=32, keep=True)])))
    vm = await manager.until("web1", lambda seen: seen.state is VmState.failed)
    agent.refuse = None
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until(vm.id, "deleted")
    (deleted,) = [
        event for event in (await manager.admin.send(calls.list_events(subject=vm.id))).items if event.reason == "Deleted"
    ]
    assert deleted.message == "VM web1 was deleted."
    assert (await manager.admin.send(calls.list_volumes())).total == 0

    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", volumes=[VolumeCreate(size_mib=32, keep=True)])))
    vm = await manager.until("web2", "running")
    await manager.admin.send(calls.delete_vm("web2"))
    await manager.until(vm.id, "deleted")
    (deleted,) = [
        event for event in (await manager.admin.send(calls.list_events(subject=vm.id))).items if event.reason == "Deleted"
    ]
    assert deleted.message == f"VM web2 was deleted. Kept on host vm: web2-vdb-{vm.id}."
    assert [one.name for one in (await manager.admin.send(calls.list_volumes())).items] == [f"web2-vdb-{vm.id}"]


async def test_promised_disk_is_not_promised_twice(manager: Any) -> None:
    """Disks are sparse: the host still has all of it free."""
    await manager.host("vm")
    size = 400_000
    await manager.admin.send(calls.create_vm(VmCreate(name="one", image="tiny", disk_mib=size, start=False)))
    await manager.until("one", "stopped")

    async def told() -> list[str]:
        return [e.message for e in (await manager.admin.send(calls.list_events())).items if e.reason == "DiskPromised"]

    assert await told() == []
    volumes = [VolumeCreate(size_mib=100_000)]
    await manager.admin.send(calls.create_vm(VmCreate(name="two", image="tiny", disk_mib=size, start=False, volumes=volumes)))
    await manager.until("two", "stopped")
    assert await told() == ["Host vm has promised 900000 MiB of disk to VMs; the limit is 950000 MiB."]
    third = VmCreate(name="three", image="tiny", disk_mib=60_000, start=False)
    error = await refused(manager.admin.send(calls.create_vm(third)))
    assert (error.status, error.code) == (409, "NQR-API-139")
    assert str(error) == "Not enough disk: needs 59 GiB; host vm has 48 GiB that is promised to no VM."
    error = await refused(manager.admin.send(calls.attach_volume("one", VolumeCreate(size_mib=60_000))))
    assert (error.status, error.code) == (409, "NQR-API-131")
    manager.core.settings = manager.core.settings.__class__(**{**manager.core.settings.__dict__, "disk_overcommit": 1.5})
    await manager.admin.send(calls.create_vm(third))
    await manager.until("three", "stopped")
