"""Reports of the manager in memory: VMs without a record, events, audit, and the description of its API."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI

from nqrust.contract import events, hosts, unknown_vms, vms
from tests.browser.world import Refusal, World, now


def lose(world: World, name: str) -> None:
    """Add a VM on a host without a record."""
    host = next(iter(world.hosts.values()))
    host.unknown_vms.append(
        unknown_vms.UnknownVm(
            id=str(uuid.uuid4()), name=name, host=host.name, state="running", ip="10.0.0.77", image="tiny", first_seen_at=now()
        )
    )


Check = Callable[..., Any]


def serve(app: FastAPI, world: Callable[[], World], who: Check, operator: Check, admin: Check) -> None:
    @app.post("/v1/vms/adopt", dependencies=[Depends(operator)], status_code=201)
    async def adopt_vm(wanted: unknown_vms.VmAdopt) -> vms.Vm:
        host, unknown = _find(world(), wanted.id)
        host.unknown_vms.remove(unknown)
        return world().add_vm(vms.VmCreate(name=wanted.name or unknown.name, image="tiny", host=host.name))

    @app.delete("/v1/unknown-vms/{ref}", dependencies=[Depends(operator)], status_code=204)
    async def delete_unknown_vm(ref: str) -> None:
        host, unknown = _find(world(), ref)
        host.unknown_vms.remove(unknown)

    @app.get("/openapi.json", dependencies=[Depends(who)])
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/v1/events", dependencies=[Depends(who)])
    async def list_events(limit: int = 100) -> events.EventList:
        return events.EventList(items=world().events[:limit])

    @app.get("/v1/audit", dependencies=[Depends(admin)])
    async def list_audit() -> events.AuditList:
        return events.AuditList(items=world().audit)


def _find(world: World, ref: str) -> tuple[hosts.Host, unknown_vms.UnknownVm]:
    for host in world.hosts.values():
        for vm in host.unknown_vms:
            if ref in (vm.id, vm.name):
                return host, vm
    raise Refusal(404, "No such VM", f"No host reports an unknown VM {ref}.")
