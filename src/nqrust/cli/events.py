"""nqr event: ls."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import outlet, output, stopping
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output, Quiet
from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.events import Event

_EVERY = 2.0  # seconds
_MOST = 1000

Lines = Annotated[int, typer.Option("-n", "--lines", metavar="N", min=1, max=_MOST, help="Number of lines.")]


def build(app: typer.Typer) -> typer.Typer:
    app.command("ls", help="List the events of VMs, hosts and images. The newest is the last.")(ls)
    return app


def ls(
    subject: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only events of this VM, host or other thing, by name or id.")
    ] = None,
    lines: Lines = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Follow new events, until Ctrl-C.")] = False,
    out: Output = "text",
    quiet: Quiet = False,
    url: ManagerUrl = None,
) -> None:
    """List events. With --follow, JSON is one object a line."""
    from nqrust.client import calls

    out = output.chosen(out, quiet)
    if follow and out == "yaml":
        raise UsageError("NQR-USE-003", "--follow and --output yaml exclude each other.", "Use text, json or name.")
    with manager(url) as client:
        found = client.send(calls.list_events(lines, subject))
        if not follow:
            rows = [_row(event) for event in reversed(found.items)]
            output.listing(found, out, _COLUMNS, rows, empty="There is no event.", wide=2, name="id")
            return
        with stopping.is_the_end(), outlet.follows():
            _follow(client, subject, out, list(reversed(found.items)))


_COLUMNS = ("at", "severity", "kind", "name", "event", "message", "id", "subject id")


def _row(event: Event) -> tuple[object, ...]:
    return (
        event.at, event.severity, event.subject_kind, event.subject_name, event.reason, event.message,
        event.id, event.subject_id,
    )  # fmt: skip


def _follow(client: ManagerClient, subject: str | None, out: str, items: list[Event]) -> None:
    from nqrust.client import calls

    last = 0
    while True:
        for event in items:
            _print(event, out)
            last = event.id
        time.sleep(_EVERY)
        items = list(reversed(client.send(calls.list_events(_MOST, subject, last)).items))


def _print(event: Event, out: str) -> None:
    if out == "json":
        typer.echo(json.dumps(event.model_dump(mode="json")))
    elif out == "name":
        typer.echo(str(event.id))
    else:
        shown = _row(event)[: 8 if out == "wide" else 6]
        typer.echo("  ".join(output.cell(value) for value in shown))
