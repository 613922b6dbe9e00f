"""The reporter's methods for the command line, besides events."""

from __future__ import annotations

from typing import Protocol

from nqrust.installer.engine.errors import NqrError
from nqrust.installer.engine.events import Event
from nqrust.installer.request import PlanPreview, Summary


class Display(Protocol):
    """A reporter that also shows plans, summaries and errors. Must not raise."""

    def emit(self, event: Event) -> None: ...

    def plan(self, preview: PlanPreview, *, diffs: bool = True) -> None:
        """Show the planned changes; `diffs`: include their diffs."""
        ...

    def note(self, text: str) -> None:
        """Show a sentence for people, outside of the run."""
        ...

    def summary(self, verb: str, summary: Summary) -> None:
        """Show the end of a run."""
        ...

    def failure(self, error: NqrError, log_path: str = "") -> None:
        """Show an error that prevented a summary."""
        ...

    def close(self) -> None:
        """Restore the terminal."""
        ...
