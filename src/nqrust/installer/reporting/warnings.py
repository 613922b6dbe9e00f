"""Lets only warnings and errors through to another reporter."""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.installer.engine.events import Event, Notice, Reporter


@dataclass(frozen=True)
class WarningsOnly:
    """`onward` hears notices that are more than information, and nothing else."""

    onward: Reporter

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice) and event.severity != "info":
            self.onward.emit(event)
