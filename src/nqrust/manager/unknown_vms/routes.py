"""VMs that hosts have without a record: list, adopt, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from nqrust.contract.unknown_vms import UnknownVmList, VmAdopt
from nqrust.contract.vms import Vm
from nqrust.manager.access.guards import CoreDep, Operator, Viewer
from nqrust.manager.audit import about
from nqrust.manager.unknown_vms import adoption
from nqrust.manager.unknown_vms import service as unknown_vms

router = APIRouter(prefix="/v1", tags=["vms"])
Ref = Annotated[str, Path(max_length=64, description="id or name")]


@router.get("/unknown-vms")
async def list_unknown_vms(core: CoreDep, _: Viewer) -> UnknownVmList:
    """List VMs that hosts have without a record. They continue to run until somebody adopts or deletes them."""
    return await unknown_vms.of_all(core)


@router.delete("/unknown-vms/{vm}", status_code=204)
async def delete_unknown_vm(core: CoreDep, who: Operator, vm: Ref) -> None:
    """Delete an unknown VM with its disk from its host."""
    await unknown_vms.remove(core, vm, who.name)


@router.post("/vms/adopt", status_code=201)
async def adopt_vm(core: CoreDep, who: Operator, body: VmAdopt) -> Vm:
    """Adopt an unknown VM: create its record from its host's data. The VM continues to run."""
    about(new=body.name or body.id)
    return await adoption.adopt(core, body, who.name)
