"""nqr network: the guard of a change of this host's network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from nqrust.cli import output
from nqrust.cli.failures import require_root
from nqrust.cli.output import Document

if TYPE_CHECKING:
    from nqrust.installer.verbs.network.guard.asking import GuardStatus


def build(app: typer.Typer) -> typer.Typer:
    app.command("status", help="Show whether a change of this host's network is guarded, and what it still needs.")(status)
    app.command("confirm", help="Confirm the new network of this host. Its gateways must answer too.")(confirm)
    return app


def status(out: Document = "text") -> None:
    """Show the guard. It puts the old network back unless nqr proves the new one in time."""
    require_root("network status")
    from nqrust.host.local import LocalHost
    from nqrust.installer.verbs.network.guard import asking

    found = asking.status(LocalHost())
    if out != "text":
        output.data(dataclasses.asdict(found), out)
        return
    for line in status_lines(found):
        typer.echo(line)


def confirm() -> None:
    """Confirm that the new network is good, and wait for the decision."""
    require_root("network confirm")
    from nqrust.host.local import LocalHost
    from nqrust.installer.verbs.network.guard import asking

    asking.confirm(LocalHost(), typer.echo)
    typer.echo("The new network stays.")


_STATES = {
    "none": "No change of this host's network is guarded.",
    "disarmed": "The new network stays.",
    "fired": "The old network is coming back.",
    "restored": "The old network is back.",
}


def status_lines(found: GuardStatus) -> list[str]:
    """Return the guard's state for people."""
    if found.state != "armed":
        return [_STATES[found.state]]
    lines = [f"{found.link} moves to {found.bridge}. The old network comes back in {found.seconds_left} s, unless proven."]
    lines += [f"  gateway {gateway}  {'no answer yet' if gateway in found.missing else 'answers'}" for gateway in found.gateways]
    lines.append(f"  new connection  {f'from {found.peer}' if found.peer else 'none yet'}")
    lines.append(f"  confirmation    {'given' if found.confirmed else 'none yet'}")
    if not found.waits:
        return [*lines, "The run that changed the network has ended, so the old network comes back."]
    return [*lines, *([f"  next: {found.next}"] if found.next else [])]
