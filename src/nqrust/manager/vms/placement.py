"""Places a VM: a host, an address there, and the specification for the host's agent."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import ImageRef, VmSpec
from nqrust.contract.hosts import HostCapacity, HostNetwork, HostState
from nqrust.contract.images import ImageManifest
from nqrust.contract.ssh_keys import tidy
from nqrust.contract.vms import DesiredState
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core import boots
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.errors import Conflict
from nqrust.manager.store.tables import Host, Image, UnknownVm, Vm, Volume
from nqrust.manager.vms import ports
from nqrust.manager.vms.addresses import RangeFull, next_address
from nqrust.manager.vms.schedule import Candidate, Demand, NoHost, choose, lack, nearly_promised, told
from nqrust.manager.volumes import service as volumes

_GOES = ("detaching", "withdrawing")
_MAKE_ROOM = "Request less, stop or delete VMs, or add a host. `nqr host ls` shows the hosts."
_OTHER_PORTS = "Choose other ports of the host, or add a host. `nqr host ls` shows the hosts."


async def lock_hosts(session: AsyncSession) -> list[Host]:
    """Lock every host until the transaction ends, so that two VMs cannot reserve the same memory or address.

    Call this before locking a VM's row: hosts are always locked first, to avoid deadlocks. NO KEY UPDATE, because FOR UPDATE
    would also block every transaction that refers to a host.
    """
    query = select(Host).order_by(Host.id).with_for_update(key_share=True)
    return list(await session.scalars(query))


async def place(core: Core, session: AsyncSession, vm: Vm, hosts: list[Host]) -> Host:
    """Return the host of `vm`: its own (if it still fits), or one chosen from `hosts` and reserved now.

    Raises NoHost.
    """
    candidates = await _candidates(core, session, hosts, vm)
    if vm.host_id is not None:
        _stay(core, vm, candidates)
        host = next(host for host in hosts if host.id == vm.host_id)
        if vm.ip is None:  # adopted from its host with an address that another VM got since
            await _give_address(session, vm, host)
        return host
    demand = _demand(core, vm)
    chosen = choose(candidates, demand, core.settings.vcpu_overcommit, core.settings.disk_overcommit)
    host = next(host for host in hosts if host.id == chosen.id)
    await _give_address(session, vm, host)
    vm.host_id = host.id
    events.record(session, vm, "VmScheduled", f"The manager placed VM {vm.name} on host {host.name}.")
    if nearly_promised(chosen, demand.disk_mib, core.settings.disk_overcommit):
        limit = chosen.promisable_mib(core.settings.disk_overcommit)
        message = (
            f"Host {host.name} has promised {chosen.promised_mib + demand.disk_mib} MiB of disk to VMs; the limit is {limit} MiB."
        )
        events.record(session, host, "DiskPromised", message, "warning")
    await session.flush()
    return host


async def check(core: Core, session: AsyncSession, vm: Vm) -> None:
    """Check the placement of a VM at the time of the request. Raises Conflict if no online host can take it.

    If all hosts are offline, raises Conflict if none could take it even when empty.
    """
    hosts = list(await session.scalars(select(Host).order_by(Host.id)))
    with session.no_autoflush:
        candidates = await _candidates(core, session, hosts, vm)
    overcommit = core.settings.vcpu_overcommit
    try:
        if vm.host_id is not None:
            _stay(core, vm, candidates)
            return
        try:
            choose(candidates, _demand(core, vm), overcommit, core.settings.disk_overcommit)
        except NoHost as error:
            if not error.later or not candidates:
                raise
            capacity = {host.id: HostCapacity.stored(host.capacity).disk_mib for host in hosts}
            choose(
                [_empty(one, capacity[one.id]) for one in candidates],
                _demand(core, vm),
                overcommit,
                core.settings.disk_overcommit,
            )
    except NoHost as error:
        if not error.later:
            cannot = [one.cannot for one in candidates if one.online]
            cure = _OTHER_PORTS if cannot and all(cannot) else _MAKE_ROOM
            raise Conflict(str(error), cure=cure, code="NQR-API-139") from error


def _demand(core: Core, vm: Vm) -> Demand:
    headroom = core.settings.memory_headroom_mib
    return Demand(
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib + headroom,
        disk_mib=vm.disk_mib + sum(volume.size_mib for volume in vm.spec.volumes if not volume.name),
        host=vm.wanted_host,
        headroom_mib=headroom,
    )


def _stay(core: Core, vm: Vm, candidates: list[Candidate]) -> None:
    """Keep a VM on the host of its disk, which already holds the disk's space. Raises NoHost."""
    own = next((c for c in candidates if c.id == vm.host_id), None)
    if own is None:
        raise NoHost("The VM's host no longer exists.", later=False)
    needed = replace(_demand(core, vm), disk_mib=0)
    # A cordon stops new VMs, not those already there.
    reason = lack(replace(own, cordoned=False), needed, core.settings.vcpu_overcommit) if own.online else None
    if reason is not None:
        raise NoHost(told([(own.name, reason)]), later=False)


def _empty(host: Candidate, disk_mib: int) -> Candidate:
    """Return an offline host as if it were online and had no VM."""
    return replace(host, online=True, used_vcpus=0, used_memory_mib=0, promised_mib=0, disk_available_mib=disk_mib)


async def _give_address(session: AsyncSession, vm: Vm, host: Host) -> None:
    """Assign the next free address of the host's range. DHCP serves only VMs with one. None: the LAN has its own DHCP."""
    taken = set(await session.scalars(select(Vm.ip).where(Vm.host_id == host.id, Vm.ip.is_not(None))))
    taken |= set(await session.scalars(select(UnknownVm.ip).where(UnknownVm.host_id == host.id, UnknownVm.ip.is_not(None))))
    try:
        vm.ip = next_address(HostNetwork.model_validate(host.network), {ip for ip in taken if ip}, host.last_ip)
    except RangeFull as error:
        raise NoHost(f"Host {host.name} has no address left: {error}", later=False) from error
    host.last_ip = vm.ip or host.last_ip


async def give_up_address(core: Core, vm_id: str, host_id: str) -> None:
    """Drop an address that the host reports as used by a VM unknown to the manager. The next start assigns another one."""
    async with core.db.transaction() as session:
        vm = await session.get(Vm, vm_id, with_for_update=True)
        if vm is not None and vm.host_id == host_id:
            vm.ip = None


async def _candidates(core: Core, session: AsyncSession, hosts: list[Host], vm: Vm) -> list[Candidate]:
    used = (
        select(
            Vm.host_id,
            func.coalesce(func.sum(Vm.vcpus), 0),
            func.coalesce(func.sum(Vm.memory_mib + core.settings.memory_headroom_mib), 0),
        )
        .where(
            Vm.host_id.is_not(None),
            Vm.id != vm.id,
            Vm.desired_state.in_((DesiredState.running.value, DesiredState.paused.value)),
        )
        .group_by(Vm.host_id)
    )
    unknown = (
        select(
            UnknownVm.host_id,
            func.coalesce(func.sum(UnknownVm.vcpus), 0),
            func.coalesce(func.sum(UnknownVm.memory_mib + core.settings.memory_headroom_mib), 0),
        )
        .where(UnknownVm.state.in_(("running", "paused")))
        .group_by(UnknownVm.host_id)
    )
    cannot = await ports.why_not(session, vm, hosts) if vm.spec.forwards and vm.host_id is None else {}
    taken: dict[str | None, tuple[int, int]] = {}
    for query in (used, unknown):
        for host_id, vcpus, memory in await session.execute(query):
            before = taken.get(host_id, (0, 0))
            taken[host_id] = (before[0] + int(vcpus), before[1] + int(memory))
    promised = await promised_disk(session, vm.id) if vm.host_id is None else {}  # one that has a host keeps its disk
    result = []
    for host in hosts:
        capacity = HostCapacity.stored(host.capacity)
        vcpus, memory = taken.get(host.id, (0, 0))
        result.append(
            Candidate(
                id=host.id,
                name=host.name,
                online=host_state(host.last_seen_at, now(), core.started_at) is HostState.online
                and not boots.conflict(host, now(), core.started_at),
                cordoned=host.cordoned,
                cpus=capacity.cpus,
                memory_mib=capacity.memory_mib,
                disk_available_mib=capacity.disk_available_mib,
                used_vcpus=vcpus,
                used_memory_mib=memory,
                disk_mib=capacity.disk_mib,
                promised_mib=promised.get(host.id, 0),
                cannot=cannot.get(host.id, ""),
            )
        )
    return result


async def promised_disk(session: AsyncSession, without: str = "") -> dict[str, int]:
    """Return the MiB of disk that each host has promised: to its VMs, in whatever state, and as kept volumes.

    `without`: the id of a VM that is not counted.
    """
    result: dict[str, int] = {}
    query = select(Vm.host_id, Vm.disk_mib, Vm.spec).where(Vm.host_id.is_not(None), Vm.id != without)
    for host_id, disk, spec in await session.execute(query):
        if host_id is not None:
            own = sum(volume.size_mib for volume in spec.volumes if not volume.name)
            result[host_id] = result.get(host_id, 0) + disk + own
    kept = select(Volume.host_id, func.sum(Volume.size_mib)).group_by(Volume.host_id)
    for holder, size in await session.execute(kept):
        result[holder] = result.get(holder, 0) + int(size)
    return result


async def specification(session: AsyncSession, vm: Vm, run: bool) -> VmSpec:
    """Return everything that the agent needs to create (and run) `vm`."""
    image = await session.get(Image, vm.image_id)
    assert image is not None  # a foreign key holds it
    manifest = ImageManifest.model_validate(image.manifest)
    kept = vm.spec
    return VmSpec(
        id=vm.id,
        name=vm.name,
        generation=vm.generation,
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib,
        disk_mib=vm.disk_mib,
        image=ImageRef(
            name=image.name,
            rootfs=manifest.rootfs,
            rootfs_type=manifest.rootfs_type,
            kernel=manifest.kernel,
            kernel_elf=manifest.kernel_elf,
            initrd=manifest.initrd,
            cmdline=manifest.cmdline,
            root_device=manifest.root_device,
        ),
        mac=vm.mac,
        tap=vm.tap,
        ip=vm.ip,
        guest_token=vm.guest_token,
        attached=[one.device for one in kept.volumes if one.change == "attaching"],
        detached=[one.model_copy(update={"change": None}) for one in kept.volumes if one.change in _GOES],
        run=run,
        made=vm.made,
        **{
            **dict(kept),
            "ssh_keys": [tidy(key) for key in kept.ssh_keys],
            "volumes": [volumes.plain(one) for one in kept.volumes if one.change not in _GOES],
        },
    )
