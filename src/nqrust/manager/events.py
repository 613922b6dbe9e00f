"""Events about things, with a reason for programs and a sentence for people."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Select, delete, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract import events as api
from nqrust.contract.text import plain
from nqrust.manager import metrics
from nqrust.manager.clock import now
from nqrust.manager.store.tables import Audit, Event, Host, Vm


def name_of(actor: str) -> str:
    """Return an actor's name for people: `token:nqr-cli` becomes `nqr-cli`. The audit log keeps the kind."""
    kind, colon, name = actor.partition(":")
    return name if colon and kind in ("user", "token", "agent", "system") else actor


def record(
    session: AsyncSession,
    subject: Vm | Host | tuple[str, str, str],
    reason: str,
    message: str,
    severity: str = "info",
) -> None:
    """Write an event in the caller's transaction, so that event and change are committed together.

    `subject`: a row, or (kind, id, name).
    """
    if isinstance(subject, Vm):
        kind, subject_id, name = "vm", subject.id, subject.name
    elif isinstance(subject, Host):
        kind, subject_id, name = "host", subject.id, subject.name
    else:
        kind, subject_id, name = subject
    metrics.EVENTS.labels(reason).inc()
    session.add(
        Event(
            subject_kind=kind,
            subject_id=subject_id,
            subject_name=name,
            reason=reason,
            message=plain(message),
            severity=severity,
        )
    )


def forget(
    session: AsyncSession,
    subject: Vm | Host | tuple[str, str, str],
    reason: str,
    message: str,
    severity: str = "info",
) -> None:
    """In place of `record`, for events beyond a budget."""


async def recent(session: AsyncSession, limit: int, subject: str | None, after: int | None) -> list[api.Event]:
    """Return the newest events first."""
    query = newest(limit, subject, after)
    return [api.Event.model_validate(row, from_attributes=True) for row in await session.scalars(query)]


def newest(limit: int, subject: str | None, after: int | None) -> Select[Event]:
    """Return the query. For a subject, it reads at most `limit` rows of each of two indexes.

    With `=`, PostgreSQL also considers to go back through all events until it has enough of this subject: a million, where the
    subject's are old. An order by the subject, which a range does not make constant, leaves it the index.
    """
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if not subject:
        return query if after is None else query.where(Event.id > after)
    parts = []
    for column in (Event.subject_id, Event.subject_name):
        part = select(Event.id).where(column.between(subject, subject))
        if after is not None:
            part = part.where(Event.id > after)
        parts.append(part.order_by(column.desc(), Event.id.desc()).limit(limit))
    return query.where(Event.id.in_(union_all(*parts)))


async def prune(session: AsyncSession, days: int, audit_days: int) -> None:
    """Delete events older than `days`, and audit entries older than `audit_days`."""
    await session.execute(delete(Event).where(Event.at < now() - timedelta(days=days)))
    await session.execute(delete(Audit).where(Audit.at < now() - timedelta(days=audit_days)))
