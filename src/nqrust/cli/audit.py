"""nqr audit: list, export."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated

import typer

from nqrust.cli import outlet, output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output, Quiet
from nqrust.installer.engine.errors import UsageError

_PAGE = 1000


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the entries of the audit log. The newest is the last.")(ls)
    app.command("export", help="Write the audit log as JSON lines, oldest entry first.")(export)
    return app


def ls(
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=1, max=_PAGE, help="Number of lines.")] = 100,
    out: Output = "text",
    quiet: Quiet = False,
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    out = output.chosen(out, quiet)
    with manager(url) as client:
        found = client.send(calls.audit(lines))
    output.listing(
        found,
        out,
        ("at", "actor", "action", "target", "status", "code", "source", "id", "method", "path", "request"),
        [
            (e.at, e.actor, e.action, e.target, e.status, e.code, e.source, e.id, e.method, e.path, e.request_id)
            for e in reversed(found.items)
        ],
        wide=4,
        name="id",
        empty="The audit log is empty.",
    )


def export(
    after: Annotated[
        int, typer.Option("--after", metavar="ID", min=0, help="Only entries with a larger id, to continue an export.")
    ] = 0,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only entries since this UTC time, such as 2026-01-31.")
    ] = None,
    url: ManagerUrl = None,
) -> None:
    """Write the audit log as JSON lines, oldest entry first. The entries are read in pages, so a log of any size needs little
    memory. docs/reference/api.md explains the fields."""
    from nqrust.client import calls

    start = _time(since)
    with manager(url) as client, outlet.follows():
        while entries := client.send(calls.audit(_PAGE, after, start)).items:
            for entry in entries:
                typer.echo(json.dumps(entry.model_dump(mode="json")))
            after = entries[-1].id


def _time(text: str | None) -> str | None:
    """Return an ISO 8601 time with its zone. Raises UsageError NQR-USE-003."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError as error:
        raise UsageError(
            "NQR-USE-003",
            f"--since cannot be “{text}”: it must be a date or a time.",
            "Write it as in 2026-01-31 or 2026-01-31T08:00.",
        ) from error
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).isoformat()
