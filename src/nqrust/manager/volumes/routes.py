"""Kept volumes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from nqrust.contract.vms import VOLUME_NAME_LENGTH, VOLUME_PATTERN
from nqrust.contract.volumes import StoredVolumeList
from nqrust.manager.access.guards import CoreDep, Operator, Viewer
from nqrust.manager.volumes import service as volumes

router = APIRouter(prefix="/v1/volumes", tags=["volumes"])


@router.get("")
async def list_volumes(core: CoreDep, _: Viewer, host: Annotated[str | None, Query(max_length=253)] = None) -> StoredVolumeList:
    """List disks that outlived their VMs, by name, with the VMs that have them attached."""
    return await volumes.of_all(core, host)


@router.delete("/{name}", status_code=204)
async def delete_volume(
    core: CoreDep, who: Operator, name: Annotated[str, Path(pattern=VOLUME_PATTERN, max_length=VOLUME_NAME_LENGTH)]
) -> None:
    """Delete a volume with its data. Refused while a VM has it."""
    await volumes.remove(core, name, who.name)
