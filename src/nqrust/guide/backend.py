"""The functions that the screens call. Tests put a host in memory behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nqrust.host.secret import Secret
from nqrust.installer.engine.events import Reporter
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.operations.looking import HostLook
from nqrust.installer.request import PlanPreview, Summary
from nqrust.installer.settings.sources import Gathered

ADMIN_PASSWORD, DB_PASSWORD, JOIN_TOKEN = "NQR_ADMIN_PASSWORD", "NQR_DB_PASSWORD", "NQR_JOIN_TOKEN"
"""The variables behind the secret fields."""


@dataclass(frozen=True)
class Answers:
    """What a person changed. `settings`: dotted name -> value, as an option takes it. `secrets`: variable -> value."""

    settings: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)


class Backend(Protocol):
    """The installer behind the screens. Only `install` and `save` change this host."""

    def settle(self, answers: Answers) -> Gathered:
        """Return all settings, with these answers above every other source. Raises UsageError."""
        ...

    def examine(self, found: Gathered) -> HostLook:
        """Run the checks. Raises NqrError."""
        ...

    def plan(self, found: Gathered) -> Summary:
        """Return the summary of a dry run; a refusal is its failure."""
        ...

    def install(self, found: Gathered, reviewed: PlanPreview, events: Reporter, interruption: Interruption) -> Summary:
        """Install. Changes nothing if the plan is no longer `reviewed`."""
        ...

    def keeps_after_failure(self) -> bool:
        """Return whether a failure leaves its changes, so that a later run continues (`--on-failure keep`)."""
        ...

    def save(self, path: str, text: str) -> None:
        """Write a file that only root may read. Raises UsageError."""
        ...

    def first_password(self, summary: Summary) -> str:
        """Return the first password of the administrator from its file, "" without one."""
        ...

    def log_path(self) -> str:
        """Return the path of this run's log, "" before there is one."""
        ...
