"""nqr audit: export."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated

import typer

from nqrust.cli.connection import ManagerUrl, manager
from nqrust.installer.engine.errors import UsageError

_PAGE = 1000


def build(app: typer.Typer) -> typer.Typer:
    app.callback()(lambda: None)  # keeps the name of the only command
    app.command("export", help="Write the audit log as JSON lines, oldest entry first.")(export)
    return app


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
    with manager(url) as client:
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
