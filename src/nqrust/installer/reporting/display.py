"""What the command line needs of a reporter besides listening."""

from __future__ import annotations

from typing import Protocol

from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Event
from nqrust.installer.request import PlanPreview, Summary


class Display(Protocol):
    """A reporter that also shows plans, summaries and errors. Must not raise."""

    def emit(self, event: Event) -> None: ...

    def plan(self, preview: PlanPreview, *, diffs: bool = True) -> None:
        """What would change; `diffs`: with what would become different."""
        ...

    def note(self, text: str) -> None:
        """A sentence for people, beside the run."""
        ...

    def summary(self, verb: str, summary: Summary) -> None:
        """The last word of a run."""
        ...

    def failure(self, error: NqrError, log_path: str = "") -> None:
        """An error that ended things before a summary could be made."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...
