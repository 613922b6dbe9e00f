"""Health, metrics, description of the API, events, audit."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import func, select

from nqrust import __version__
from nqrust.contract.events import AuditList, EventList, Health
from nqrust.manager import audit, events, metrics
from nqrust.manager.access.guards import Admin, CoreDep, Viewer
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.store.tables import Host, Vm
from nqrust.manager.unknown_vms import service as unknown_vms

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/health", response_model=Health, tags=["system"])
async def health(core: CoreDep) -> Response:
    """Return `ok` (200), or `database away` (503). No authentication."""
    there = await core.db.ping()
    body = Health(status="ok" if there else "database away", version=__version__)
    return JSONResponse(body.model_dump(), status_code=200 if there else 503)


@router.get("/metrics", response_class=PlainTextResponse, tags=["system"])
async def prometheus(core: CoreDep, _: Viewer) -> Response:
    """Prometheus text format."""
    await _refresh_gauges(core)
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _refresh_gauges(core: Core) -> None:
    async with core.db.reading() as session:
        vms = (await session.execute(select(Vm.state, func.count()).group_by(Vm.state))).all()
        seen = list(await session.scalars(select(Host.last_seen_at)))
        unknown = await unknown_vms.counts(session)
    metrics.VMS.clear()
    for state, count in vms:
        metrics.VMS.labels(state).set(count)
    metrics.UNKNOWN_VMS.clear()
    for host, count in unknown.items():
        metrics.UNKNOWN_VMS.labels(host).set(count)
    metrics.HOSTS.clear()
    for last_seen_at in seen:
        metrics.HOSTS.labels(host_state(last_seen_at, now(), core.started_at).value).inc()


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
async def docs(_: Viewer) -> HTMLResponse:
    """Show the API for people, without files from other machines."""
    with open(os.path.join(os.path.dirname(__file__), "docs.html"), encoding="utf-8") as file:  # noqa: ASYNC230
        return HTMLResponse(file.read())


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request, _: Viewer) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/v1/events", tags=["events"])
async def list_events(
    core: CoreDep,
    _: Viewer,
    limit: Limit = 100,
    subject: Annotated[str | None, Query(max_length=253)] = None,
    after: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> EventList:
    """List events, newest first. `subject`: id or name of a thing; `after`: only events with a larger id."""
    async with core.db.reading() as session:
        return EventList(items=await events.recent(session, limit, subject, after))


@router.get("/v1/audit", tags=["events"])
async def list_audit(
    core: CoreDep,
    _: Admin,
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    since: datetime | None = None,
) -> AuditList:
    """List who requested each change, newest first. `after`: only entries with a larger id, oldest first, for an export.

    `since`: only entries of that time or later, oldest first.
    """
    if after is None and since is None:
        async with core.db.reading() as session:
            return AuditList(items=await audit.newest(session, limit))
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=timezone.utc)
    return AuditList(items=await audit.following(core, limit, after or 0, since))
