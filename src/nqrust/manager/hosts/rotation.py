"""Replaces the secrets of hosts while everything runs: each agent learns from the answer to its heartbeat that one is due."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.hosts import HostRotation, HostTokens
from nqrust.contract.hosts import Rotation as ApiRotation
from nqrust.manager.access import rights
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.trust import Trust
from nqrust.manager.errors import NotFound
from nqrust.manager.store.tables import Host, Rotation

CERTIFICATES, TOKENS = "certificates", "tokens"


async def certificates(core: Core) -> ApiRotation:
    """Issue new certificates to the manager and the web UI, and ask each agent to renew its own. Raises NotFound without TLS."""
    if core.trust is None:
        raise NotFound("This manager has no certificate authority.", cure="Run `nqr install`, which makes one.")
    await _mark(core, CERTIFICATES)
    await asyncio.to_thread(core.trust.renew, anew=True)
    return await state(core)


async def tokens(core: Core) -> ApiRotation:
    """Ask each agent to fetch new tokens."""
    await _mark(core, TOKENS)
    return await state(core)


async def new_tokens(core: Core, host_id: str, who: Principal) -> HostTokens:
    """Return new tokens for a host. The former ones are accepted until the agent uses the new one. Raises NotFound."""
    agent_token, command_token = new_token(), new_token()
    async with core.db.transaction() as session:
        host = await session.get(Host, host_id, with_for_update=True)
        if host is None:
            raise NotFound("There is no such host.")
        rights.check_agent(host, who)
        host.next_agent_token_sha256, host.next_command_token = hash_token(agent_token), command_token
        host.tokens_at = now()
    return HostTokens(agent_token=agent_token, command_token=command_token)


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
            tokens=not _tokens_due(row, marks),
        )
        for row in rows
    ]
    if core.trust is None:
        return ApiRotation(hosts=hosts)
    return ApiRotation(trusted=core.trust.fingerprint, signer=core.trust.signer, hosts=hosts)


async def due(core: Core, session: AsyncSession, host: Host) -> dict[str, bool]:
    """Return the part of the answer to a heartbeat, which has just reported the agent's certificate."""
    marks = await _marks(session)
    return {
        "renew_certificate": core.trust is not None and bool(host.seen_certificate) and _renewal_due(core.trust, host, marks),
        "renew_tokens": _tokens_due(host, marks),
    }


def _tokens_due(host: Host, marks: Mapping[str, datetime]) -> bool:
    if host.next_agent_token_sha256 is not None:  # sent, and perhaps lost on the way
        return True
    return _is_older(host.tokens_at, marks.get(TOKENS))


def _renewal_due(trust: Trust, host: Host, marks: Mapping[str, datetime]) -> bool:
    return (
        host.seen_certificate != host.certificate  # it died before it stored the newest one, or has none
        or host.seen_authority != trust.fingerprint
        or host.certificate_signer != trust.signer
        or _is_older(host.certificate_at, marks.get(CERTIFICATES))
    )


def _is_older(made: datetime | None, mark: datetime | None) -> bool:
    """Return whether a secret has to follow the rotation of `mark`. So does one of the future: it was made while the clock was
    ahead, so nobody knows whether it came before the mark, and its certificate may not be valid yet."""
    if made is not None and made > now():
        return True
    return mark is not None and (made is None or made < mark)


async def _mark(core: Core, kind: str) -> None:
    async with core.db.transaction() as session:
        at = now()
        await session.execute(
            insert(Rotation).values(kind=kind, at=at).on_conflict_do_update(index_elements=["kind"], set_={"at": at})
        )


async def _marks(session: AsyncSession) -> dict[str, datetime]:
    """Return when each kind was rotated. A time in the future, set while the clock was ahead, becomes now: until it came, each
    host would renew with each heartbeat."""
    rows = list(await session.scalars(select(Rotation)))
    for row in rows:
        if row.at > (at := now()):
            row.at = at
    return {row.kind: row.at for row in rows}
