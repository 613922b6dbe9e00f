"""Waits for the guest of a VM that was started a moment ago: people type `nqr vm exec web1` right after `nqr vm create web1`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Annotated, TypeVar

import typer

from nqrust.cli import output, stopping
from nqrust.cli.connection import ManagerError, manager
from nqrust.contract.guest import BOOT_SECONDS
from nqrust.contract.text import argument

T = TypeVar("T")
PATIENCE = BOOT_SECONDS
_EVERY = 0.25
BootTimeout = Annotated[
    float,
    typer.Option(
        "--boot-timeout", metavar="SECONDS", min=0, help="Maximum wait for a VM that still boots, in seconds since its start."
    ),
]


class NotReady(ManagerError):
    """The guest does not answer. It may be still booting."""


def until_ready(
    name: str,
    url: str | None,
    patience: float,
    attempt: Callable[[], T],
    *,
    services: bool = False,
    may_come: Callable[[], bool] = lambda: True,
) -> T:
    """Return what `attempt` returns. While the guest boots, or its `services` start, call it again after a NotReady. `may_come`:
    asked once before that. A signal during that wait is Interrupted NQR-USE-017."""
    waited = False
    with ExitStack() as wait:
        while True:
            try:
                return attempt()
            except NotReady:
                if not (waited or may_come()) or _left(name, url, patience, services) <= 0:
                    raise
            if not waited:
                output.say(f"{name} is still booting. Waiting for its guest.", err=True)
                wait.enter_context(stopping.told(f"VM {name} continues to boot.", f"nqr vm logs {argument(name)}"))
                waited = True
            time.sleep(_EVERY)


def _left(name: str, url: str | None, patience: float, services: bool) -> float:
    from nqrust.client import calls
    from nqrust.client.waiting import boots_for

    with manager(url) as client:
        return boots_for(client.send(calls.get_vm(name)), datetime.now(timezone.utc), patience, services=services)
