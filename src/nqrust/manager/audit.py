"""The audit log: who did what to which thing, from where, with which result. `contract.events.AuditEntry` has the fields.

It has every change, every refused change and every console. Refusals of one sender are bounded, so that nobody fills the disk.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract import events as api
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.throttle import Buckets
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store.tables import Audit

log = structlog.get_logger("nqrust.manager.audit")

SIGN_IN, STRANGER, SENDER = "sign-in", "stranger", "sender:"
_AT_ONCE, _PAUSE = 50, 60.0
_OF_A_SENDER, _PAUSE_OF_A_SENDER = 200, 10.0


@dataclass
class Subject:
    """The thing that a request is about. `names`: the names behind path parameters; `new` for a thing that it creates."""

    names: dict[str, str] = field(default_factory=dict)

    def of(self, path_params: dict[str, Any]) -> str:
        told = [self.names.get(key) or str(value) for key, value in path_params.items()]
        return "/".join([*told, self.names["new"]] if "new" in self.names else told)


_subject: ContextVar[Subject | None] = ContextVar("subject", default=None)


def begin() -> Subject:
    """Start a request: until its end, `about` names its subject."""
    subject = Subject()
    _subject.set(subject)
    return subject


def about(**names: str | None) -> None:
    """Name what the current request is about, by path parameter (`vm="web1"`), or `new="web1"`. Nothing outside a request."""
    subject = _subject.get()
    if subject is not None:
        subject.names.update({key: name for key, name in names.items() if name})


class Bounds:
    """How many refusals the log takes: of each sender, of all strangers, and of all sign-ins."""

    def __init__(self) -> None:
        self._strangers = Buckets(_AT_ONCE, _PAUSE)
        self._senders = Buckets(_OF_A_SENDER, _PAUSE_OF_A_SENDER)

    def allow(self, key: str) -> bool:
        buckets = self._senders if key.startswith(SENDER) else self._strangers
        if buckets.wait(key) > 0:
            return False
        buckets.take(key)
        return True


async def write(
    core: Core,
    state: dict[str, Any],
    *,
    actor: str,
    method: str,
    path: str,
    status: int,
    action: str,
    target: str,
    code: str = "",
) -> None:
    """Write one entry. Without a database, the manager's log has it, and a later call writes it. `state`: of the request, from
    the gate."""
    principal: Principal | None = state.get("principal")
    entry = {
        "at": now(),
        "actor": _stored(actor, 200),
        "username": principal.username if principal else "",
        "token": principal.token if principal else "",
        "auth": principal.auth if principal else "",
        "action": action,
        "target": _stored(target, 500),
        "method": method,
        "path": _stored(path, 500),
        "status": status,
        "code": code,
        "request_id": state["request_id"],
        "source": state["source"],
    }
    late = [*core.late]
    core.late.clear()
    try:
        async with core.db.entries() as session:
            session.add_all(Audit(**one) for one in (*late, entry))
    except BaseException as error:
        core.late.extend((*late, entry))
        log.error("audit entry waits for the database", method=method, path=path, status=status, actor=actor)
        if not isinstance(error, DatabaseAway):
            raise


def _stored(text: str, most: int) -> str:
    """Return a text that the database takes: without NUL and halves of surrogate pairs, which JSON can have."""
    return text.replace("\0", "").encode(errors="replace").decode()[:most]


async def newest(session: AsyncSession, limit: int) -> list[api.AuditEntry]:
    """Return the newest entries first."""
    rows = await session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit))
    return [api.AuditEntry.model_validate(row, from_attributes=True) for row in rows]


async def following(core: Core, limit: int, after: int, since: datetime | None) -> list[api.AuditEntry]:
    """Return the entries after an id, oldest first: a page of an export. Raises DatabaseLocked, DatabaseSlow, DatabaseAway.

    An entry gets its id before its commit. So the page ends before the entries that were not complete when this began: the next
    page begins after the last id of this one, and would miss them.
    """
    async with core.db.entries_settled() as session:
        newest_id = await session.scalar(select(func.max(Audit.id))) or 0
    query = select(Audit).where(Audit.id > after, Audit.id <= newest_id).order_by(Audit.id).limit(limit)
    if since is not None:
        query = query.where(Audit.at >= since)
    async with core.db.reading() as session:
        return [api.AuditEntry.model_validate(row, from_attributes=True) for row in await session.scalars(query)]
