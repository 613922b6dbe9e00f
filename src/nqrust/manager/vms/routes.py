"""VMs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from nqrust.contract.events import EventList
from nqrust.contract.vms import (
    DEVICE_PATTERN,
    SNAPSHOT_PATTERN,
    VOLUME_NAME_LENGTH,
    VOLUME_PATTERN,
    ConsoleTicket,
    PortForwards,
    RateLimits,
    Snapshot,
    SnapshotCreate,
    SnapshotList,
    StopRequest,
    Vm,
    VmCreate,
    VmList,
    VmState,
    VolumeCreate,
)
from nqrust.manager import events
from nqrust.manager.access.guards import CoreDep, Operator, Viewer
from nqrust.manager.audit import about
from nqrust.manager.core.tickets import EXEC, TTL_SECONDS
from nqrust.manager.errors import Conflict
from nqrust.manager.store.tables import Host
from nqrust.manager.vms import forwards, looks, rate_limits, snapshots
from nqrust.manager.vms import listing as vm_list
from nqrust.manager.vms import service as vms
from nqrust.manager.vms import volumes as vm_volumes

router = APIRouter(prefix="/v1/vms", tags=["vms"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]

Name = Annotated[str, Path(pattern=SNAPSHOT_PATTERN, max_length=63)]
Device = Annotated[str, Path(pattern=DEVICE_PATTERN, description="the volume's name in the guest: vdb ...")]
Data = Annotated[
    Literal["keep", "delete"] | None,
    Query(description="what becomes of what is on it; needed where the volume is not marked to be kept"),
]
Meant = Annotated[
    str | None,
    Query(
        pattern=VOLUME_PATTERN,
        max_length=VOLUME_NAME_LENGTH,
        description="the name that the volume has once it is kept: refused (409) if the device is another volume by now",
    ),
]


@router.get("", response_model=VmList)
async def list_vms(
    core: CoreDep,
    _: Viewer,
    host: Annotated[str | None, Query(max_length=253)] = None,
    tag: Annotated[str | None, Query(max_length=253)] = None,
    limit: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """List VMs by name; `limit` restricts the number."""
    return Response(await vm_list.render(core, host, tag, limit, offset), media_type="application/json")


@router.post("", status_code=201, response_model=Vm)
async def create_vm(core: CoreDep, who: Operator, body: VmCreate, idempotency_key: Key = None) -> Response:
    """Accept and record a new VM; poll it, or follow its events. The same Idempotency-Key returns the same VM."""
    about(new=body.name)
    vm, new = await vms.create(core, body, who.name, f"{who.account}\n{idempotency_key}" if idempotency_key else None)
    headers = {"Location": f"/v1/vms/{vm.id}"} | ({} if new else {"Idempotency-Replayed": "true"})
    return JSONResponse(vm.model_dump(mode="json", warnings=False), status_code=201, headers=headers)


@router.get("/{vm}")
async def get_vm(core: CoreDep, _: Viewer, vm: str, fresh: bool = False) -> Vm:
    """Return a VM by id or name. `fresh`: its host is asked too, and decides about the state."""
    return await (looks.fresh(core, vm) if fresh else vms.get(core, vm))


@router.delete("/{vm}", status_code=202)
async def delete_vm(core: CoreDep, who: Operator, vm: str, force: bool = False) -> Vm:
    """Accept a delete. `force`: even if its host does not answer."""
    return await vms.delete(core, vm, who.name, force)


@router.post("/{vm}/start", status_code=202)
async def start_vm(core: CoreDep, who: Operator, vm: str) -> Vm:
    return await vms.start(core, vm, who.name, await looks.contradicted(core, vm))


@router.post("/{vm}/stop", status_code=202)
async def stop_vm(core: CoreDep, who: Operator, vm: str, body: StopRequest | None = None) -> Vm:
    """Ask the guest to power off, and end it after `timeout_seconds`. `force`: end it at once."""
    return await vms.stop(core, vm, body or StopRequest(), who.name, await looks.contradicted(core, vm))


@router.post("/{vm}/restart", status_code=202)
async def restart_vm(core: CoreDep, who: Operator, vm: str, body: StopRequest | None = None) -> Vm:
    return await vms.restart(core, vm, body or StopRequest(), who.name)


@router.post("/{vm}/pause", status_code=202)
async def pause_vm(core: CoreDep, who: Operator, vm: str) -> Vm:
    return await vms.pause(core, vm, who.name)


@router.post("/{vm}/resume", status_code=202)
async def resume_vm(core: CoreDep, who: Operator, vm: str) -> Vm:
    return await vms.resume(core, vm, who.name)


@router.put("/{vm}/forwards", status_code=202)
async def set_forwards(core: CoreDep, who: Operator, vm: str, body: PortForwards) -> Vm:
    """Replace all port forwards of the VM. A running VM gets them at once."""
    return await forwards.replace(core, vm, body.items, who.name)


@router.put("/{vm}/rate-limits", status_code=202)
async def set_rate_limits(core: CoreDep, who: Operator, vm: str, body: RateLimits) -> Vm:
    """Replace all rate limits of the VM. A running VM gets them at once."""
    return await rate_limits.replace(core, vm, body, who.name)


@router.post("/{vm}/volumes", status_code=202)
async def attach_volume(core: CoreDep, who: Operator, vm: str, body: VolumeCreate) -> Vm:
    """Attach an empty volume, or a kept one of its host, to a stopped VM without snapshots.

    Complete when its `change` is gone.
    """
    return await vm_volumes.attach(core, vm, body, who.name)


@router.delete("/{vm}/volumes/{device}", status_code=202)
async def detach_volume(core: CoreDep, who: Operator, vm: str, device: Device, data: Data = None, volume: Meant = None) -> Vm:
    """Detach a volume from a stopped VM without snapshots. The other volumes keep their names.

    Complete when it is not listed any more. A kept volume can be attached again.
    """
    return await vm_volumes.detach(core, vm, device, data, volume, who.name)


@router.get("/{vm}/snapshots")
async def list_snapshots(core: CoreDep, _: Viewer, vm: str) -> SnapshotList:
    return await snapshots.of_vm(core, vm)


@router.post("/{vm}/snapshots", status_code=202)
async def create_snapshot(core: CoreDep, who: Operator, vm: str, body: SnapshotCreate) -> Snapshot:
    """Snapshot the disks, and the memory of a running VM if its VMM supports it."""
    about(new=body.name)
    return await snapshots.create(core, vm, body.name, who.name)


@router.post("/{vm}/snapshots/{name}/restore", status_code=202)
async def restore_snapshot(core: CoreDep, who: Operator, vm: str, name: Name) -> Vm:
    """Restore a stopped VM. With a full snapshot it resumes from there."""
    return await snapshots.restore(core, vm, name, who.name)


@router.delete("/{vm}/snapshots/{name}", status_code=202)
async def delete_snapshot(core: CoreDep, who: Operator, vm: str, name: Name) -> Snapshot:
    return await snapshots.delete(core, vm, name, who.name)


@router.get("/{vm}/events")
async def vm_events(core: CoreDep, _: Viewer, vm: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> EventList:
    """List the VM's events, newest first."""
    async with core.db.reading() as session:
        found = await vms.find(session, vm)
        return EventList(items=await events.recent(session, limit, found.id, None))


@router.post("/{vm}/console-ticket", status_code=201)
async def console_ticket(core: CoreDep, who: Operator, vm: str) -> ConsoleTicket:
    """Return a ticket that opens the console's WebSocket once, within half a minute."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
    core.viewers.check(who, found.id, found.host_id)
    ticket = core.tickets.issue(found.id, who)
    return ConsoleTicket(ticket=ticket, path=f"/v1/vms/{found.id}/console", expires_in=TTL_SECONDS)


@router.post("/{vm}/exec-ticket", status_code=201)
async def exec_ticket(core: CoreDep, who: Operator, vm: str) -> ConsoleTicket:
    """Return a ticket that opens one session in the guest, within half a minute. Its WebSocket takes one command."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
    if not found.spec.guest_exec:
        raise Conflict(
            f"VM {found.name} allows no commands.",
            cure="Use its console, or create it with --guest-exec.",
            code="NQR-API-122",
        )
    if found.state == VmState.paused.value:
        raise Conflict(
            f"VM {found.name} is paused: no command runs in it.",
            cure=f"Run `nqr vm resume {found.name}` first.",
            code="NQR-API-111",
        )
    core.viewers.check(who, found.id, found.host_id)
    ticket = core.tickets.issue(found.id, who, EXEC)
    return ConsoleTicket(ticket=ticket, path=f"/v1/vms/{found.id}/exec", expires_in=TTL_SECONDS)


@router.get("/{vm}/console/log", response_class=PlainTextResponse)
async def console_log(
    core: CoreDep, _: Operator, vm: str, tail: Annotated[int | None, Query(ge=1, le=1 << 20, description="bytes")] = None
) -> Response:
    """Return the output of the serial port, or its last part: `tail` bytes, at most a MiB."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
        host = await session.get(Host, found.host_id) if found.host_id else None
    if host is None:
        raise Conflict(f"VM {found.name} is on no host yet.", cure="Wait until the VM has started.", code="NQR-API-111")
    return PlainTextResponse(await core.agent_of(host).console_log(found.id, tail))
