"""Events about things, with a reason for programs and a sentence for people."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, or_, select
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
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if subject:
        query = query.where(or_(Event.subject_id == subject, Event.subject_name == subject))
    if after is not None:
        query = query.where(Event.id > after)
    return [api.Event.model_validate(row, from_attributes=True) for row in await session.scalars(query)]


async def prune(session: AsyncSession, days: int, audit_days: int) -> None:
    """Delete events older than `days`, and audit entries older than `audit_days`."""
    await session.execute(delete(Event).where(Event.at < now() - timedelta(days=days)))
    await session.execute(delete(Audit).where(Audit.at < now() - timedelta(days=audit_days)))
