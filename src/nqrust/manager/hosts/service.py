"""Hosts: heartbeat, capacity, cordon, drain."""

from __future__ import annotations

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.hosts import Heartbeat, HostCapacity, HostList, HostNetwork, HostRegister, HostRegistered, HostState
from nqrust.contract.hosts import Host as ApiHost
from nqrust.contract.unknown_vms import UnknownVm
from nqrust.manager import events, operations
from nqrust.manager.audit import about
from nqrust.manager.clock import now
from nqrust.manager.core import boots
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.hosts import rotation
from nqrust.manager.store.tables import Host, Vm
from nqrust.manager.unknown_vms import service as unknown_vms

HEARTBEAT_SECONDS = 15
LOCK: dict[str, bool] = {"key_share": True}


def describe(host: Host, wanted: HostRegister) -> None:
    host.name = wanted.name
    host.url = wanted.advertise_url.rstrip("/")
    host.version, host.boot_id = wanted.version, wanted.boot_id
    host.vmm, host.accel, host.kvm = wanted.vmm, wanted.accel, wanted.kvm
    host.capacity = wanted.capacity.model_dump(mode="json")
    host.network = wanted.network.model_dump(mode="json")
    host.state, host.last_seen_at = HostState.online.value, now()


def note_boot(core: Core, session: AsyncSession, host: Host, boot_id: str, source: str, url: str = "") -> bool:
    """Note the boot id of an agent that came from `source`; with `url`, it registers at that address.

    Return False for a heartbeat of a machine that another one has replaced: two machines report as this host.
    """
    at = now()
    known = boots.of(host, at)
    returned, conflicts = known.returned(host.boot_id, boot_id), known.conflicts(at, core.started_at)
    if returned and not url:
        known = known.proven(at, source)
        host.boots = known.model_dump(mode="json")
        if not conflicts and core.budgets.allow(host.id, "HostConflict"):
            message = f"{boots.told(host, known)} The manager does nothing there. {boots.CURE}"
            events.record(session, host, "HostConflict", message, "error")
        return False
    if known.twin_at and not conflicts:
        known = known.single()
        if core.budgets.allow(host.id, "HostConflictEnded"):
            events.record(session, host, "HostConflictEnded", f"Host {host.name} is a single machine again.")
    if host.boot_id != boot_id:
        if not returned and core.budgets.allow(host.id, "HostRebooted"):
            events.record(session, host, "HostRebooted", f"Host {host.name} rebooted.", "warning")
        seen_at = None if boots.stays(host.url, url or host.url) else host.last_seen_at
        known = known.replaced(host.boot_id, boot_id, seen_at)
    if not known.waits(at, core.started_at):
        known = known.trusted()
    if url:
        known = known.registered(at, host.url, url)
    host.boots, host.boot_id = known.model_dump(mode="json"), boot_id
    return True


def note_return(session: AsyncSession, host: Host) -> None:
    if host.state != HostState.online.value:
        events.record(session, host, "HostOnline", f"Host {host.name} is back.")


async def heartbeat(core: Core, host_id: str, beat: Heartbeat, source: str) -> HostRegistered:
    """Note that the host is there. Return what is due for it. Raises NotFound, Conflict (another machine has its identity)."""
    async with core.db.transaction() as session:
        host = await session.get(Host, host_id, with_for_update=LOCK)
        if host is None:
            raise NotFound("There is no such host.")
        url = host.url
        known = note_boot(core, session, host, beat.boot_id, source)
        if known:
            note_return(session, host)
            host.state, host.last_seen_at = HostState.online.value, now()
            host.version = beat.version
            host.capacity = beat.capacity.model_dump(mode="json")
            host.seen_certificate, host.seen_authority = beat.certificate, beat.authority
            conflict = boots.conflict(host, now(), core.started_at)
            due = {} if conflict else await rotation.due(core, session, host)  # new tokens would lock the other machine out
    if not known:
        raise Conflict(f"Another machine reports as this host, at {url}.", cure=boots.CURE, code="NQR-API-153")
    return HostRegistered(host_id=host_id, heartbeat_seconds=HEARTBEAT_SECONDS, **due)


async def find(session: AsyncSession, ref: str, lock: bool = False) -> Host:
    """Return the host with this id or name. Raises NotFound."""
    query = select(Host).where(or_(Host.id == ref, Host.name == ref))
    host = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if host is None:
        raise NotFound(f"There is no host {ref}.", cure="`nqr host ls` shows the hosts.")
    about(host=host.name)
    return host


async def list_hosts(core: Core) -> HostList:
    async with core.db.reading() as session:
        rows = list(await session.scalars(select(Host).order_by(Host.name)))
        counted = select(Vm.host_id, func.count()).group_by(Vm.host_id)
        counts = {row[0]: row[1] for row in await session.execute(counted)}
        unknown = await unknown_vms.by_host(session)
    items = [_host(core, row, counts.get(row.id, 0), unknown.get(row.id)) for row in rows]
    return HostList(items=items, total=len(items))


async def get_host(core: Core, ref: str) -> ApiHost:
    async with core.db.transaction() as session:
        host = await find(session, ref)
        return _host(core, host, await _count(session, host), (await unknown_vms.by_host(session, host.id)).get(host.id))


async def cordon(core: Core, ref: str, cordoned: bool) -> ApiHost:
    """Stop (or resume) placing VMs there. Uncordon restarts the VMs that a drain stopped."""
    async with core.db.transaction() as session:
        host = await find(session, ref, lock=True)
        if host.cordoned != cordoned:
            reason = "HostCordoned" if cordoned else "HostUncordoned"
            events.record(session, host, reason, f"Host {host.name} was {'' if cordoned else 'un'}cordoned.")
        host.cordoned = cordoned
        if not cordoned:
            await operations.start_drained(session, host.id)
        shown = _host(core, host, await _count(session, host), (await unknown_vms.by_host(session, host.id)).get(host.id))
    core.wake.set()
    return shown


async def drain(core: Core, ref: str, actor: str) -> ApiHost:
    """Cordon and stop every VM there, asking the guests first. Disks are local, so VMs stop and do not move."""
    async with core.db.transaction() as session:
        host = await find(session, ref, lock=True)
        host.cordoned = True
        stopped = await operations.stop_all(session, host.id, actor)
        events.record(
            session, host, "HostDraining", f"{events.name_of(actor)} started the drain of host {host.name}: {stopped} VMs stop."
        )
        shown = _host(core, host, await _count(session, host), (await unknown_vms.by_host(session, host.id)).get(host.id))
    core.wake.set()
    return shown


async def delete_host(core: Core, ref: str, force: bool) -> None:
    """Delete a host. With VMs on it this needs `force`, and deletes their rows too.

    The operator guarantees that the machine is off, so nothing can run twice.
    """
    async with core.db.transaction() as session:
        host = await find(session, ref, lock=True)
        vms = list(await session.scalars(select(Vm).where(Vm.host_id == host.id).with_for_update()))
        if vms and not force:
            raise Conflict(
                f"Host {host.name} still has {len(vms)} VMs.",
                cure="Delete the VMs first, or use force if the machine is gone for good.",
                code="NQR-API-116",
            )
        for vm in vms:
            await operations.close_all(session, vm.id)
            await session.delete(vm)
            events.record(session, vm, "VmForgotten", f"The manager removed VM {vm.name} with its host {host.name}.", "warning")
        await session.flush()
        events.record(session, host, "HostDeleted", f"Host {host.name} was deleted.")
        await session.delete(host)


async def _count(session: AsyncSession, host: Host) -> int:
    return await session.scalar(select(func.count()).select_from(Vm).where(Vm.host_id == host.id)) or 0


def _host(core: Core, row: Host, vms: int, unknown: list[UnknownVm] | None = None) -> ApiHost:
    return ApiHost(
        id=row.id,
        name=row.name,
        state=host_state(row.last_seen_at, now(), core.started_at),
        url=row.url,
        version=row.version,
        boot_id=row.boot_id,
        vmm=row.vmm,
        accel=row.accel,
        kvm=row.kvm,
        cordoned=row.cordoned,
        capacity=HostCapacity.stored(row.capacity),
        network=HostNetwork.model_validate(row.network),
        vms=vms,
        unknown_vms=unknown or [],
        conflict=boots.conflict(row, now(), core.started_at),
        last_seen_at=row.last_seen_at,
        created_at=row.created_at,
    )
