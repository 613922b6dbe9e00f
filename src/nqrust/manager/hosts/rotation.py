"""Replaces the secrets of hosts while everything runs: each agent learns from the answer to its heartbeat that one is due."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.hosts import HostRotation
from nqrust.contract.hosts import Rotation as ApiRotation
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.core.trust import Trust
from nqrust.manager.errors import NotFound
from nqrust.manager.store.tables import Host, Rotation

CERTIFICATES = "certificates"


async def certificates(core: Core) -> ApiRotation:
    """Issue new certificates to the manager and the web UI, and ask each agent to renew its own. Raises NotFound without TLS."""
    if core.trust is None:
        raise NotFound("This manager has no certificate authority.", cure="Run `nqr install`, which makes one.")
    await _mark(core, CERTIFICATES)
    await asyncio.to_thread(core.trust.renew, anew=True)
    return await state(core)


async def state(core: Core) -> ApiRotation:
    """Return how far the hosts are."""
    async with core.db.transaction() as session:
        rows = list(await session.scalars(select(Host).order_by(Host.name)))
        marks = await _marks(session)
    hosts = [
        HostRotation(
            name=row.name,
            state=host_state(row.last_seen_at, now(), core.started_at),
            authority=core.trust is None or row.seen_authority == core.trust.fingerprint,
            certificate=core.trust is None or not _renewal_due(core.trust, row, marks),
        )
        for row in rows
    ]
    if core.trust is None:
        return ApiRotation(hosts=hosts)
    return ApiRotation(trusted=core.trust.fingerprint, signer=core.trust.signer, hosts=hosts)


async def renewal_due(core: Core, session: AsyncSession, host: Host) -> bool:
    """Return whether the agent of `host` needs a new certificate. Its heartbeat has just reported the current one."""
    if core.trust is None or not host.seen_certificate:
        return False
    return _renewal_due(core.trust, host, await _marks(session))


def _renewal_due(trust: Trust, host: Host, marks: Mapping[str, datetime]) -> bool:
    mark = marks.get(CERTIFICATES)
    return (
        host.seen_certificate != host.certificate  # it died before it stored the newest one, or has none
        or host.seen_authority != trust.fingerprint
        or host.certificate_signer != trust.signer
        or (mark is not None and (host.certificate_at is None or host.certificate_at < mark))
    )


async def _mark(core: Core, kind: str) -> None:
    async with core.db.transaction() as session:
        at = now()
        await session.execute(
            insert(Rotation).values(kind=kind, at=at).on_conflict_do_update(index_elements=["kind"], set_={"at": at})
        )


async def _marks(session: AsyncSession) -> dict[str, datetime]:
    return {row.kind: row.at for row in await session.scalars(select(Rotation))}
