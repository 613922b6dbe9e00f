"""A filter that passes only warnings and errors to another reporter."""

from __future__ import annotations

from dataclasses import dataclass

from nqrust.installer.engine.events import Event, Notice, Reporter


@dataclass(frozen=True)
class WarningsOnly:
    """The filter. `onward` receives only notices above information."""

    onward: Reporter

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice) and event.severity != "info":
            self.onward.emit(event)
