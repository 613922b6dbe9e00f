"""The audit log: who requested each change. For administrators."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from nqrust.client import calls
from nqrust.contract.auth import Role
from nqrust.contract.events import AuditEntry, AuditList
from nqrust.ui import format as fmt
from nqrust.ui import parts, session
from nqrust.ui.frame import entrance, frame, head
from nqrust.ui.live import Live
from nqrust.ui.tables import Column, Listing, Row

_STATUS = """<span :class="'badge ' + props.row.tone" :title="props.row.code">{{ props.row.status }}</span>"""
_REQUEST = (
    '<div class="break">{{ props.row.what }}</div>'
    '<span class="mono break muted small">{{ props.row.method }} {{ props.row.path }}</span>'
)
_ACTOR = '<span class="break">{{ props.row.actor }}</span> <span class="muted small">{{ props.row.owner }}</span>'


def row(entry: AuditEntry) -> Row:
    tone = "good" if entry.status < 400 else "warn" if entry.status < 500 else "bad"
    return {
        "id": str(entry.id),
        "order": entry.id,
        "at": fmt.clock(entry.at),
        "actor": entry.actor,
        "owner": f"of {entry.username}" if entry.token and entry.username else "",
        "what": " ".join(part for part in (entry.action.replace("_", " "), entry.target) if part),
        "code": entry.code,
        "method": entry.method,
        "path": entry.path,
        "status": entry.status,
        "tone": tone,
        "source": entry.source,
        "request": entry.request_id,
    }


@ui.page("/audit")
def audit(request: Request) -> RedirectResponse | None:
    me = entrance(request, Role.admin)
    if isinstance(me, RedirectResponse):
        return me
    manager = session.connect(me.token)

    def build(data: AuditList) -> Callable[[AuditList], None]:
        listing = Listing(
            [
                Column("at", "When", '<span class="nowrap">{{ props.row.at }}</span>', sort="order"),
                Column("actor", "Who", _ACTOR, sort="actor"),
                Column("what", "What", _REQUEST, sort="what"),
                Column("status", "Answer", _STATUS, sort="status"),
                Column("source", "From", sort="source"),
            ],
            key="id",
            search="User, request, result or address",
            card=f'<div class="top">{_REQUEST}{_STATUS}</div><div class="muted small">{{{{ props.row.actor }}}} · '
            "{{ props.row.at }} · {{ props.row.source }}</div>",
        )

        def update(fresh: AuditList) -> None:
            listing.show([row(entry) for entry in fresh.items])

        update(data)
        return update

    async def fetch() -> AuditList:
        return await manager.send(calls.audit(500))

    with frame(me, "/audit", "Audit"):
        head("Audit")
        Live(
            fetch,
            build,
            empty=lambda data: not data.items,
            every=5.0,
            when_empty=lambda: parts.nothing_yet(
                "fact_check", "Nothing yet", "The audit log records every change, every refused change and every console."
            ),
        )
    return None
