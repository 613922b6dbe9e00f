"""A detach that names its volume finds no other one, which has the letter since."""

from __future__ import annotations

from typing import Any

import pytest

from nqrust.client import calls as do
from nqrust.contract.vms import VolumeCreate
from nqrust.manager.work.reconciler import Reconciler

from .test_vm_volumes import KEPT, refused, settled, stopped


@pytest.mark.parametrize("kept", [True, False], ids=["a kept one", "a new one"])
async def test_another_volume_that_has_the_letter_since_is_left_alone(manager: Any, kept: bool) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager, volumes=[KEPT])
    agent.volumes["precious"] = 10
    await Reconciler(manager.core).once()
    seen = vm.volumes[0].kept_name(vm.name, vm.id)
    await manager.admin.send(do.detach_volume(vm.id, "vdb"))
    await settled(manager, vm.id)
    await manager.admin.send(do.attach_volume(vm.id, VolumeCreate(name="precious") if kept else KEPT))
    now = (await settled(manager, vm.id)).volumes[0]
    name = now.kept_name(vm.name, vm.id)
    status, code, said = await refused(manager.admin.send(do.detach_volume(vm.id, "vdb", "delete", seen)))
    assert (status, code) == (409, "NQR-API-146") and name in said and seen in said
    assert [one.change for one in (await manager.admin.send(do.get_vm(vm.id))).volumes] == [None]
    found = await manager.admin.send(do.detach_volume(vm.id, "vdb", "keep", name))
    assert found.volumes[0].change == "detaching"
