"""Requests for VMs: every change is recorded and answered at once, and the worker carries it out."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract import names
from nqrust.contract.agent import GuestReportForward
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.images import ImageManifest
from nqrust.contract.vms import (
    DesiredState,
    GuestReport,
    StopRequest,
    VmCreate,
    VmKept,
    VmLimits,
    VmState,
)
from nqrust.contract.vms import Vm as ApiVm
from nqrust.manager import events, operations
from nqrust.manager.audit import about
from nqrust.manager.clock import now
from nqrust.manager.core import keys
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, Invalid, NotFound
from nqrust.manager.images import pulling
from nqrust.manager.store.tables import Host, Operation, Vm
from nqrust.manager.templates import service as templates
from nqrust.manager.vms import placement, ports, processes, tombstones
from nqrust.manager.volumes import service as volumes

_MIB = 1024 * 1024
_REBOOTS_TOLD_EVERY = timedelta(minutes=1)
_RUNS_OR_WILL = (VmState.running, VmState.starting, VmState.pending, VmState.stopping)
"""States of a VM that will run; `stopping` is the first half of a restart."""
_MAY_RUN = {state.value for state in (VmState.running, VmState.paused, VmState.stopping, VmState.unknown)}
"""States in which a start would change nothing. An earlier request may be unfinished, and is then never carried out."""


async def find(session: AsyncSession, ref: str, lock: bool = False) -> Vm:
    """Return the VM with this id or name, the id first. Raises NotFound."""
    query = select(Vm).where(or_(Vm.id == ref, Vm.name == ref))
    found = list(await session.scalars(query.with_for_update() if lock else query))
    if not found:
        raise NotFound(f"There is no VM {ref}.", cure="`nqr vm ls` shows the VMs.")
    vm = next((vm for vm in found if vm.id == ref), found[0])
    about(vm=vm.name)
    return vm


async def create(core: Core, wanted: VmCreate, actor: str, key: str | None) -> tuple[ApiVm, bool]:
    """Record a new VM. Return (VM, whether it is new): the same key and request return the same VM. The key has been made the
    sender's own."""
    check_name(wanted.name)
    digest = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()
    made_of = f" from template {wanted.template}" if wanted.template else ""
    if key and (known := await _replay(core, key, digest)):
        return known, False
    try:
        async with core.db.transaction() as session:
            vm = await _insert(core, session, await templates.applied(session, wanted), actor)
            operation = await operations.enqueue(session, vm, "create", DesiredState(vm.desired_state), actor)
            operation.idempotency_key, operation.request_sha256 = key, digest if key else None
            events.record(session, vm, "VmCreated", f"{events.name_of(actor)} created VM {vm.name}{made_of}.")
            await session.flush()
            shown = api_vm(vm, None)
    except IntegrityError as error:
        if key and (known := await _replay(core, key, digest)):
            return known, False
        raise Conflict(f"There is already a VM named {wanted.name}.") from error
    core.wake.set()
    return shown, True


def check_name(name: str) -> None:
    try:
        UUID(name)
    except ValueError:
        return
    raise Invalid(f"{name} looks like an id.", cure="Choose a name that is not a UUID.")


async def _replay(core: Core, key: str, digest: str) -> ApiVm | None:
    async with core.db.transaction() as session:
        operation = await session.scalar(select(Operation).where(Operation.idempotency_key == key))
        if operation is None:
            return None
        if operation.request_sha256 != digest:
            raise Invalid(
                "This Idempotency-Key was used for another request.",
                cure="Use a new key for a new request.",
                code="NQR-API-110",
            )
        vm = await session.get(Vm, operation.vm_id)
        if vm is None:
            raise Conflict(
                "The VM created with this Idempotency-Key was deleted.",
                cure="Use a new key.",
                code="NQR-API-110",
            )
        return api_vm(vm, await _host_name(session, vm))


async def _insert(core: Core, session: AsyncSession, wanted: VmCreate, actor: str) -> Vm:
    # FOR KEY SHARE: the image cannot be deleted between this check and the commit.
    image = await pulling.find(session, wanted.image or "", lock=True)
    if image is None:
        raise NotFound(f"There is no image {wanted.image}.", cure="`nqr image ls` shows the images.")
    if image.state != "ready":
        raise Invalid(
            f"Image {image.name} is {image.state}: {image.error or 'not usable now'}.",
            cure="Build or add the image again.",
            code="NQR-IMG-112",
        )
    manifest = ImageManifest.model_validate(image.manifest)
    if wanted.memory_mib < manifest.min_memory_mib:
        raise Invalid(f"Image {image.name} needs at least {manifest.min_memory_mib} MiB of memory.")
    smallest = max(manifest.min_disk_mib, -(-manifest.rootfs.size // _MIB))
    if wanted.disk_mib is not None and wanted.disk_mib < smallest:
        raise Invalid(f"Image {image.name} needs a disk of at least {smallest} MiB.")
    if wanted.host is not None and not await session.scalar(select(Host.id).where(Host.name == wanted.host)):
        raise NotFound(f"There is no host {wanted.host}.", cure="`nqr host ls` shows the hosts.")
    keys.check(wanted.ssh_keys, wanted.users)
    if len({user.name for user in wanted.users}) < len(wanted.users):
        raise Invalid("A user is named twice.")
    vm_id = str(uuid4())
    guest_token = new_token()
    vm = Vm(
        id=vm_id,
        name=wanted.name,
        wanted_host=wanted.host,
        image_id=image.id,
        image=image.name,
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
        disk_mib=wanted.disk_mib or smallest,
        desired_state=(DesiredState.running if wanted.start else DesiredState.stopped).value,
        state=VmState.pending.value,
        generation=1,
        observed_generation=0,
        mac=names.mac_address(vm_id),
        tap=names.tap_name(vm_id),
        guest_token=guest_token,
        guest_token_sha256=hash_token(guest_token),
        error="",
        restarts=0,
        drained=False,
        spec=VmKept.model_validate(
            {
                **dict(wanted),
                "forwards": ports.in_order(wanted.forwards),
                "volumes": [],
                "process": processes.complete(image.name, manifest.process, wanted.command, wanted.env),
            }
        ),
        network_written="",
        created_by=actor,
        created_at=now(),
    )
    session.add(vm)
    await session.flush()
    taken, vm.wanted_host = await volumes.taken(core, session, vm.id, wanted.volumes, wanted.host)
    vm.change(volumes=taken)
    await placement.check(core, session, vm)
    return vm


async def get(core: Core, ref: str) -> ApiVm:
    async with core.db.transaction() as session:
        vm = await find(session, ref)
        return api_vm(vm, await _host_name(session, vm))


async def start(core: Core, ref: str, actor: str, contradicted: bool = False) -> ApiVm:
    """Start a VM. `contradicted`: its host reports that the row is wrong about whether it runs. A second request is harmless."""
    async with core.db.transaction() as session:
        vm = await changeable(session, ref)
        paused = vm.state == VmState.paused.value or vm.desired_state == DesiredState.paused.value
        if paused and not contradicted:
            await operations.enqueue(session, vm, "resume", DesiredState.running, actor)
        elif contradicted or not _settled(vm, DesiredState.running, *_RUNS_OR_WILL):
            await placement.check(core, session, vm)
            vm.restarts, vm.drained = 0, False
            await operations.enqueue(session, vm, "start", DesiredState.running, actor)
        return await woken(core, session, vm)


async def stop(core: Core, ref: str, request: StopRequest, actor: str, contradicted: bool = False) -> ApiVm:
    """Stop a VM. `contradicted`: as in `start`."""
    async with core.db.transaction() as session:
        vm = await changeable(session, ref)
        vm.drained = False
        hurry = request.force and vm.state == VmState.stopping.value
        if contradicted or hurry or not _settled(vm, DesiredState.stopped, VmState.stopped, VmState.stopping):
            await operations.enqueue(session, vm, "stop", DesiredState.stopped, actor, request.model_dump())
        return await woken(core, session, vm)


async def restart(core: Core, ref: str, request: StopRequest, actor: str) -> ApiVm:
    async with core.db.transaction() as session:
        vm = await changeable(session, ref)
        vm.restarts = 0
        kind = "restart" if vm.state in _MAY_RUN else "start"
        await operations.enqueue(session, vm, kind, DesiredState.running, actor, request.model_dump())
        return await woken(core, session, vm)


async def pause(core: Core, ref: str, actor: str) -> ApiVm:
    async with core.db.transaction() as session:
        vm = await changeable(session, ref)
        if not _settled(vm, DesiredState.paused, VmState.paused):
            waits = vm.state == VmState.paused.value and vm.desired_state == DesiredState.running.value
            if vm.state != VmState.running.value and not waits:  # one that waits for room on the disk
                raise _wrong_state(vm, "paused", "start it and wait until it runs")
            await operations.enqueue(session, vm, "pause", DesiredState.paused, actor)
        return await woken(core, session, vm)


async def resume(core: Core, ref: str, actor: str) -> ApiVm:
    async with core.db.transaction() as session:
        vm = await changeable(session, ref)
        if not _settled(vm, DesiredState.running, VmState.running):
            if vm.state != VmState.paused.value and vm.desired_state != DesiredState.paused.value:
                raise _wrong_state(vm, "resumed", "only a paused VM can be; start it instead")
            await operations.enqueue(session, vm, "resume", DesiredState.running, actor)
        return await woken(core, session, vm)


async def delete(core: Core, ref: str, actor: str, force: bool) -> ApiVm:
    """Delete a VM. `force`: do not wait for an unreachable host; its remains are removed when it is back."""
    async with core.db.transaction() as session:
        vm = await find(session, ref, lock=True)
        if vm.desired_state != DesiredState.deleted.value or force or vm.state == VmState.failed.value:
            await operations.enqueue(session, vm, "delete", DesiredState.deleted, actor, {"force": force})
            await tombstones.record(session, vm.id, vm.name, vm.host_id, actor)
            events.record(session, vm, "VmDeleting", f"{actor} deletes VM {vm.name}.")
        return await woken(core, session, vm)


async def guest_report(core: Core, host_id: str, vm_id: str, forward: GuestReportForward) -> None:
    """Record a guest agent's report, forwarded by its host's agent. Reports about VMs of other hosts are refused."""
    async with core.db.transaction() as session:
        vm = await session.get(Vm, vm_id, with_for_update=True)
        if vm is None or vm.host_id != host_id:
            raise NotFound("There is no such VM on this host.")
        report = forward.report
        vm.guest = report.model_dump(mode="json")
        if vm.state in (VmState.stopped.value, VmState.stopping.value, VmState.deleting.value):
            return
        if vm.guest_up_at is None:
            vm.guest_up_at = now()
            events.record(session, vm, "GuestUp", f"The guest of {vm.name} is up with address {report.ip}.")
        elif vm.boot_id is not None and vm.boot_id != report.boot_id and _worth_telling(core, vm.id):
            events.record(session, vm, "GuestRebooted", f"The guest of {vm.name} started again.", "warning")
        vm.boot_id = report.boot_id


def _worth_telling(core: Core, vm_id: str) -> bool:
    """Return whether to record an event for a reboot: a guest can report a new boot each time."""
    at = now()
    core.reboots = {key: told for key, told in core.reboots.items() if at - told < _REBOOTS_TOLD_EVERY}
    return core.reboots.setdefault(vm_id, at) is at


async def changeable(session: AsyncSession, ref: str) -> Vm:
    """Return the VM, locked. Raises Conflict if it is being deleted."""
    vm = await find(session, ref, lock=True)
    if vm.desired_state == DesiredState.deleted.value:
        raise Conflict(f"VM {vm.name} is being deleted.", cure="Create a new one.", code="NQR-API-111")
    return vm


def _settled(vm: Vm, desired: DesiredState, *states: VmState) -> bool:
    """Return whether `vm` is in the wanted state, or on its way there."""
    return vm.desired_state == desired.value and vm.state in {state.value for state in states}


def _wrong_state(vm: Vm, verb: str, cure: str) -> Conflict:
    return Conflict(f"VM {vm.name} is {vm.state} and cannot be {verb}.", cure=f"{cure.capitalize()}.", code="NQR-API-111")


async def woken(core: Core, session: AsyncSession, vm: Vm) -> ApiVm:
    """Wake the worker after a change, and return the answer."""
    await session.flush()
    core.wake.set()
    return api_vm(vm, await _host_name(session, vm))


async def _host_name(session: AsyncSession, vm: Vm) -> str | None:
    if vm.host_id is None:
        return None
    return await session.scalar(select(Host.name).where(Host.id == vm.host_id))


def api_vm(row: Vm, host: str | None) -> ApiVm:
    """Return a row in the API's form. Not validated: the row was validated when it was written."""
    guest: dict[str, Any] | None = row.guest
    report = GuestReport.model_construct(**guest) if guest else None
    columns = {name: getattr(row, name) for name in ApiVm.model_fields.keys() & row.__table__.columns.keys()}
    return ApiVm.model_construct(
        **{
            **dict(row.spec),
            **columns,
            "state": VmState(row.state),
            "desired_state": DesiredState(row.desired_state),
            "host": host,
            "ip": row.ip or (report.ip if report and row.guest_up_at else None),
            "command": row.spec.process.argv if row.spec.process else [],
            "users": [user.name for user in row.spec.users],
            "guest": report,
            "limits": VmLimits.model_construct(**row.limits) if row.limits else None,
        }
    )
