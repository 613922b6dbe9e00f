"""VMs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from nqrust.contract.events import EventList
from nqrust.contract.vms import (
    DEVICE_PATTERN,
    SNAPSHOT_PATTERN,
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
    VolumeCreate,
)
from nqrust.manager import events
from nqrust.manager.access.guards import CoreDep, Operator, Viewer
from nqrust.manager.core.tickets import TTL_SECONDS
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


@router.get("", response_model=VmList)
async def list_vms(
    core: CoreDep,
    _: Viewer,
    host: Annotated[str | None, Query(max_length=253)] = None,
    tag: Annotated[str | None, Query(max_length=253)] = None,
    limit: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """By name, all of them unless `limit` says otherwise."""
    return Response(await vm_list.render(core, host, tag, limit, offset), media_type="application/json")


@router.post("", status_code=201, response_model=Vm)
async def create_vm(core: CoreDep, who: Operator, body: VmCreate, idempotency_key: Key = None) -> Response:
    """Accepted and on record; poll it, or follow its events. The same Idempotency-Key gives the same VM again."""
    vm, new = await vms.create(core, body, who.name, idempotency_key)
    headers = {"Location": f"/v1/vms/{vm.id}"} | ({} if new else {"Idempotency-Replayed": "true"})
    return JSONResponse(vm.model_dump(mode="json", warnings=False), status_code=201, headers=headers)


@router.get("/{vm}")
async def get_vm(core: CoreDep, _: Viewer, vm: str, fresh: bool = False) -> Vm:
    """By id or name. `fresh`: its host is asked too, and its word about the state counts."""
    return await (looks.fresh(core, vm) if fresh else vms.get(core, vm))


@router.delete("/{vm}", status_code=202)
async def delete_vm(core: CoreDep, who: Operator, vm: str, force: bool = False) -> Vm:
    """Accepted. `force`: even when its host does not answer."""
    return await vms.delete(core, vm, who.name, force)


@router.post("/{vm}/start", status_code=202)
async def start_vm(core: CoreDep, who: Operator, vm: str) -> Vm:
    return await vms.start(core, vm, who.name, await looks.contradicted(core, vm))


@router.post("/{vm}/stop", status_code=202)
async def stop_vm(core: CoreDep, who: Operator, vm: str, body: StopRequest | None = None) -> Vm:
    """Asks the guest to power off, ends it after `timeout_seconds`; at once with `force`."""
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
    """All port forwards of the VM; a running one gets them at once."""
    return await forwards.replace(core, vm, body.items, who.name)


@router.put("/{vm}/rate-limits", status_code=202)
async def set_rate_limits(core: CoreDep, who: Operator, vm: str, body: RateLimits) -> Vm:
    """All rate limits of the VM; a running one gets them at once."""
    return await rate_limits.replace(core, vm, body, who.name)


@router.post("/{vm}/volumes", status_code=202)
async def attach_volume(core: CoreDep, who: Operator, vm: str, body: VolumeCreate) -> Vm:
    """To a VM that is stopped and has no snapshots: an empty one, or a kept one of its host. Done when its `change` is gone."""
    return await vm_volumes.attach(core, vm, body, who.name)


@router.delete("/{vm}/volumes/{device}", status_code=202)
async def detach_volume(core: CoreDep, who: Operator, vm: str, device: Device, data: Data = None) -> Vm:
    """From a VM that is stopped and has no snapshots; its other volumes keep their names. Done when it is not listed any more.
    One that is kept can be attached again."""
    return await vm_volumes.detach(core, vm, device, data, who.name)


@router.get("/{vm}/snapshots")
async def list_snapshots(core: CoreDep, _: Viewer, vm: str) -> SnapshotList:
    return await snapshots.of_vm(core, vm)


@router.post("/{vm}/snapshots", status_code=202)
async def create_snapshot(core: CoreDep, who: Operator, vm: str, body: SnapshotCreate) -> Snapshot:
    """Its disks, and its memory where it runs under a VMM that can."""
    return await snapshots.create(core, vm, body.name, who.name)


@router.post("/{vm}/snapshots/{name}/restore", status_code=202)
async def restore_snapshot(core: CoreDep, who: Operator, vm: str, name: Name) -> Vm:
    """Of a stopped VM. A full snapshot lets it go on from there."""
    return await snapshots.restore(core, vm, name, who.name)


@router.delete("/{vm}/snapshots/{name}", status_code=202)
async def delete_snapshot(core: CoreDep, who: Operator, vm: str, name: Name) -> Snapshot:
    return await snapshots.delete(core, vm, name, who.name)


@router.get("/{vm}/events")
async def vm_events(core: CoreDep, _: Viewer, vm: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> EventList:
    """What happened to it, newest first."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
        return EventList(items=await events.recent(session, limit, found.id, None))


@router.post("/{vm}/console-ticket", status_code=201)
async def console_ticket(core: CoreDep, who: Operator, vm: str) -> ConsoleTicket:
    """Opens the console's WebSocket once, within half a minute."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
    ticket = core.tickets.issue(found.id, who)
    return ConsoleTicket(ticket=ticket, path=f"/v1/vms/{found.id}/console", expires_in=TTL_SECONDS)


@router.get("/{vm}/console/log", response_class=PlainTextResponse)
async def console_log(core: CoreDep, _: Operator, vm: str) -> Response:
    """What the serial port said so far, its last part when that is long."""
    async with core.db.transaction() as session:
        found = await vms.find(session, vm)
        host = await session.get(Host, found.host_id) if found.host_id else None
    if host is None:
        raise Conflict(f"VM {found.name} is on no host yet.", cure="Wait until the VM has started.", code="NQR-API-111")
    return PlainTextResponse(await core.agent_of(host).console_log(found.id))
