"""This host's record of a VM, for a manager that lost its own record."""

from __future__ import annotations

from nqrust.agent.errors import NotFound
from nqrust.agent.vms.service import VmService
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.agent import VmDocument, VmPlaced, VmSpec


def document(service: VmService, snapshots: Snapshots, vm_id: str) -> VmDocument:
    """Return everything needed to adopt the VM. Raises NotFound if it is not here or its record cannot be read."""
    status = service.status(vm_id)
    record = service.store.read(vm_id)
    if record is None:
        path = f"{service.store.directory(vm_id)}/vm.json"
        raise NotFound("NQR-API-711", f"The record of VM {vm_id} cannot be read: {path}.", "Restore that file from a backup.")
    known = record.model_dump(include=set(VmPlaced.model_fields))
    return VmDocument(
        spec=VmSpec.model_validate({**known, "guest_token": "", "run": record.asked == "run"}),
        status=status,
        created_at=record.created_at,
        network_written=record.network_written,
        snapshots=snapshots.found(vm_id),
    )
