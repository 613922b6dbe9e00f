"""Maps host ports to VMs."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.vms import PortForward
from nqrust.manager.errors import Invalid
from nqrust.manager.store.tables import SPEC, Host, UnknownVm, Vm


def in_order(forwards: Iterable[PortForward]) -> list[PortForward]:
    """Return the forwards in their stored order. Raises Invalid if a port of the host is named twice."""
    ordered = sorted(forwards, key=_key)
    keys = [_key(one) for one in ordered]
    for key in keys:
        if keys.count(key) > 1:
            raise Invalid(f"Port {key[1]}/{key[0]} of the host is forwarded twice.")
    return ordered


async def why_not(session: AsyncSession, vm: Vm, hosts: list[Host], before: Iterable[PortForward] = ()) -> dict[str, str]:
    """Return host id -> the reason, for hosts that cannot forward the ports of `vm`. `before`: those that it has now, and keeps."""
    found = {
        host.id: "has no NAT network, which port forwards need" for host in hosts if host.network.get("mode", "nat") != "nat"
    }
    wanted = {_key(one) for one in vm.spec.forwards}
    new = {port for protocol, port in wanted - {_key(one) for one in before} if protocol == "tcp"}
    for host in hosts:
        for port in sorted(new.intersection(host.network.get("kept_ports", ()))):
            found.setdefault(host.id, f"keeps port {port}/tcp for the platform and for SSH")
    query = select(Vm.host_id, Vm.name, Vm.spec).where(
        Vm.host_id.in_([host.id for host in hosts]), Vm.id != vm.id, func.jsonb_array_length(SPEC["forwards"]) > 0
    )
    named = func.coalesce(func.nullif(UnknownVm.name, ""), UnknownVm.vm_id)
    unknown = select(UnknownVm.host_id, named, UnknownVm.forwards).where(
        UnknownVm.host_id.in_([host.id for host in hosts]),
        UnknownVm.vm_id != vm.id,
        func.jsonb_array_length(UnknownVm.forwards) > 0,
    )
    others = [(host_id, name, spec.forwards) for host_id, name, spec in await session.execute(query)]
    for host_id, name, forwards in [*others, *await session.execute(unknown)]:
        for protocol, port in sorted({_key(one) for one in forwards} & wanted):
            found.setdefault(host_id, f"forwards port {port}/{protocol} to VM {name} already")
    return found


def _key(one: PortForward) -> tuple[str, int]:
    return one.protocol, one.host_port
