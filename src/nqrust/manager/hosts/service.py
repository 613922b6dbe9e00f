"""Hosts: registration, heartbeat, capacity, cordon, drain."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.auth import JoinToken as ApiJoinToken
from nqrust.contract.auth import JoinTokenCreate
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.hosts import Heartbeat, HostCapacity, HostList, HostNetwork, HostRegister, HostRegistered, HostState
from nqrust.contract.hosts import Host as ApiHost
from nqrust.contract.vms import UnknownVm
from nqrust.manager import events, operations
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import Conflict, Invalid, NotAuthenticated, NotFound
from nqrust.manager.store.tables import Host, JoinToken, Vm
from nqrust.manager.unknown_vms import service as unknown_vms

HEARTBEAT_SECONDS = 15
_LOCK: dict[str, bool] = {"key_share": True}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_SECOND_TRY = timedelta(minutes=10)
"""Grace period for a used join token, in case the agent died before it stored the answer."""


async def create_join_token(core: Core, wanted: JoinTokenCreate, actor: str) -> ApiJoinToken:
    secret = new_token()
    expires_at = now() + timedelta(seconds=wanted.ttl_seconds)
    async with core.db.transaction() as session:
        session.add(
            JoinToken(
                id=str(uuid4()),
                sha256=hash_token(secret),
                created_by=actor,
                expires_at=expires_at,
                reusable=False,
            )
        )
    return ApiJoinToken(token=secret, expires_at=expires_at)


async def register(core: Core, wanted: HostRegister, principal: Principal, source: str, same_machine: bool) -> HostRegistered:
    """Register a new host with a join token, or a known one again with its own token.

    `same_machine`: the request comes from the manager's machine. Raises NotAuthenticated for a join token that is used up,
    expired or not valid from there; Conflict if another live host has the name.
    """
    _check_name(wanted.name)
    _check_url(wanted.advertise_url, same_machine)
    try:
        async with core.db.transaction() as session:
            if principal.kind == "agent":
                host = await session.get(Host, principal.host_id, with_for_update=_LOCK)
                if host is None:
                    raise NotAuthenticated(
                        "The manager does not know this host any more.", cure="Join again with a token from `nqr host token`."
                    )
                _note_return(session, host, wanted.boot_id)
                _describe(host, wanted)
                return HostRegistered(host_id=host.id, heartbeat_seconds=HEARTBEAT_SECONDS)
            join = await session.get(JoinToken, principal.join_id, with_for_update=True)
            host = await session.scalar(select(Host).where(Host.name == wanted.name).with_for_update(key_share=True))
            _check_join(join, host, same_machine)
            assert join is not None
            state = host_state(host.last_seen_at, now(), core.started_at) if host else HostState.offline
            if host and not join.reusable and state is HostState.online and join.host_id != host.id:
                raise Conflict(
                    f"A host named {wanted.name} is already online.",
                    cure="Use another --agent-name, or remove the other host with `nqr host rm`.",
                )
            agent_token, command_token = new_token(), new_token()
            if host is None:
                host = Host(id=str(uuid4()), name=wanted.name, capacity={}, network={})
                session.add(host)
            host.agent_token_sha256 = hash_token(agent_token)
            host.command_token = command_token
            _describe(host, wanted)
            await session.flush()
            join.used_at, join.host_id = join.used_at or now(), host.id
            message = f"Host {host.name} joined from {source}: {wanted.vmm} on {wanted.accel}."
            events.record(session, host, "HostRegistered", message)
            core.wake.set()
            return HostRegistered(
                host_id=host.id,
                agent_token=agent_token,
                command_token=command_token,
                heartbeat_seconds=HEARTBEAT_SECONDS,
            )
    except IntegrityError as error:
        raise Conflict(f"A host named {wanted.name} registered at the same moment.") from error


async def check_join_token(core: Core, principal: Principal, same_machine: bool) -> None:
    """Check whether `register` would accept this token from a new host. Raises NotAuthenticated; changes nothing."""
    if principal.kind != "join":
        return
    async with core.db.transaction() as session:
        _check_join(await session.get(JoinToken, principal.join_id), None, same_machine)


def _check_join(join: JoinToken | None, host: Host | None, same_machine: bool) -> None:
    if join is None or (join.expires_at is not None and join.expires_at <= now()):
        raise _join_refused("This join token has expired.")
    if join.reusable:
        if not same_machine:
            raise _join_refused("This join token is for the agent on the manager's own machine only.")
        return
    if join.used_at is not None:
        again = host is not None and join.host_id == host.id and now() - join.used_at < _SECOND_TRY
        if not again:
            raise _join_refused("This join token is already used.")


def _join_refused(detail: str) -> NotAuthenticated:
    cure = "Create a new token with `nqr host token` on the manager's machine."
    return NotAuthenticated(detail, cure=cure, code="NQR-API-114")


def _check_name(name: str) -> None:
    """Check the name. URLs find a host by id or name, so a name is neither a path nor another host's id."""
    try:
        UUID(name)
        looks_like_id = True
    except ValueError:
        looks_like_id = False
    if looks_like_id or not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is not a host name.", cure="Use letters, digits, dots and dashes in `nqr install --agent-name`.")


def _check_url(url: str, same_machine: bool) -> None:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or port is None or parts.username:
        raise Invalid(f"advertise_url {url!r} is not http://ADDRESS:PORT.")
    try:
        address = ip_address(parts.hostname)
        local = address.is_loopback or address.is_unspecified
    except ValueError:
        local = parts.hostname == "localhost"
    if local and not same_machine:
        raise Invalid(
            f"advertise_url {url!r} is not reachable from the manager.",
            cure="Run `nqr install --advertise-address ADDRESS` on that host, with an address that the manager can reach.",
            code="NQR-API-115",
        )


def _describe(host: Host, wanted: HostRegister) -> None:
    host.name = wanted.name
    host.url = wanted.advertise_url.rstrip("/")
    host.version, host.boot_id = wanted.version, wanted.boot_id
    host.vmm, host.accel, host.kvm = wanted.vmm, wanted.accel, wanted.kvm
    host.capacity = wanted.capacity.model_dump(mode="json")
    host.network = wanted.network.model_dump(mode="json")
    host.state, host.last_seen_at = HostState.online.value, now()


def _note_return(session: AsyncSession, host: Host, boot_id: str) -> None:
    if host.boot_id != boot_id:
        events.record(session, host, "HostRebooted", f"Host {host.name} rebooted.", "warning")
    if host.state != HostState.online.value:
        events.record(session, host, "HostOnline", f"Host {host.name} is back.")


async def heartbeat(core: Core, host_id: str, beat: Heartbeat) -> None:
    async with core.db.transaction() as session:
        host = await session.get(Host, host_id, with_for_update=_LOCK)
        if host is None:
            raise NotFound("There is no such host.")
        _note_return(session, host, beat.boot_id)
        host.boot_id, host.state = beat.boot_id, HostState.online.value
        host.version = beat.version
        host.capacity = beat.capacity.model_dump(mode="json")
        host.last_seen_at = now()


async def find(session: AsyncSession, ref: str, lock: bool = False) -> Host:
    """Return the host with this id or name. Raises NotFound."""
    query = select(Host).where(or_(Host.id == ref, Host.name == ref))
    host = await session.scalar(query.with_for_update(key_share=True) if lock else query)
    if host is None:
        raise NotFound(f"There is no host {ref}.")
    return host


async def list_hosts(core: Core) -> HostList:
    async with core.db.transaction() as session:
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
        capacity=HostCapacity.model_validate(row.capacity),
        network=HostNetwork.model_validate(row.network),
        vms=vms,
        unknown_vms=unknown or [],
        last_seen_at=row.last_seen_at,
        created_at=row.created_at,
    )
