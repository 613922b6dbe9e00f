"""nqr services: bring all of it back after a reboot without systemd, and stop it in good order."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.failures import require_root
from nqrust.cli.output import Document
from nqrust.host.signals import ENDING, handled

if TYPE_CHECKING:
    from nqrust.installer.operations.serving import Services

_GRACE, _LONGEST = 40, 75
"""Seconds. The supervisor ends the agent after 90, and it has more to do than to wait for guests."""
_LOOK = 0.5

Wait = Annotated[
    bool, typer.Option("--wait", help="Then wait for SIGTERM or SIGINT, and stop the services. For a container's first process.")
]
GuestSeconds = Annotated[
    int,
    typer.Option(
        "--guest-seconds",
        metavar="SECONDS",
        min=0,
        max=_LONGEST,
        help="How long guests may take to power off. 0: do not ask them.",
    ),
]


def build(app: typer.Typer) -> typer.Typer:
    app.command("start", help="Start the services that do not run, in order, and wait until they answer.")(start)
    app.command("stop", help="Ask guests to power off, then stop the services.")(stop)
    app.command("status", help="Show the services. Exit code 1 if one does not run.")(status)
    return app


def start(wait: Wait = False, guest_seconds: GuestSeconds = _GRACE) -> None:
    """Bring the services back, for example after a reboot of a container."""
    require_root("services start")
    from nqrust.installer.operations import serving

    if not wait:
        _say(serving.start(typer.echo))
        return
    with _noticing_signals() as seen:
        _say(serving.start(typer.echo))
        typer.echo("Waiting for SIGTERM.")
        _wait_for(seen)
    _say(serving.stop(guest_seconds, typer.echo), stopped=True)


def stop(guest_seconds: GuestSeconds = _GRACE) -> None:
    """Ask guests to power off, then stop the services."""
    require_root("services stop")
    from nqrust.installer.operations import serving

    _say(serving.stop(guest_seconds, typer.echo), stopped=True)


def status(out: Document = "text") -> None:
    """Show the services as their supervisor reports them."""
    require_root("services status")
    from nqrust.installer.operations import serving

    found = serving.show()
    if out != "text":
        output.data({**dataclasses.asdict(found), "all_run": found.all_run}, out)
    else:
        for line in lines(found):
            typer.echo(line)
    raise typer.Exit(0 if found.all_run else 1)


def lines(found: Services) -> list[str]:
    """Return the services for people."""
    width = max((len(service.name) for service in found.services), default=0)
    rows = [f"  {one.name:<{width}}  {'active' if one.active else 'NOT ACTIVE'}  {one.detail}".rstrip() for one in found.services]
    return [f"{found.supervisor} runs the services of this host.", *rows, f"  VMs that run: {found.vms}"]


def _say(found: Services, *, stopped: bool = False) -> None:
    if not stopped:
        typer.echo(f"All services run under {found.supervisor}.")
    elif not any(service.active for service in found.services):
        typer.echo("All services are stopped.")


@contextmanager
def _noticing_signals() -> Iterator[list[int]]:
    """Keep the signals that end this process for later: a start that stops halfway leaves no order to stop."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    with handled(ENDING, note):
        yield seen


def _wait_for(seen: list[int]) -> None:
    """Wait for a signal. The first process of a container is also the parent of orphans, so it takes their exit status."""
    while not seen:
        _reap()
        time.sleep(_LOOK)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
