"""The confirmation before the first change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from nqrust.installer.engine.errors import UsageError

if TYPE_CHECKING:
    from nqrust.installer.reporting.display import Display
    from nqrust.installer.request import PlanPreview


def asker(display: Display, question: str) -> Callable[[PlanPreview], bool]:
    """Return a function that shows the plan and asks. It does not ask if the plan is empty."""

    def confirm(preview: PlanPreview) -> bool:
        display.plan(preview, diffs=False)
        if not preview.changes:
            return True
        sys.stdout.write(f"\n{question} [y/N] ")
        sys.stdout.flush()
        answer = sys.stdin.readline().strip().lower()
        return answer in ("y", "yes")

    return confirm


def must_be_answerable(terminal: bool, non_interactive: bool) -> None:
    """Raise UsageError NQR-USE-009 if the command removes data and nobody can be asked."""
    if not terminal and not non_interactive:
        raise UsageError(
            "NQR-USE-009",
            "Without a terminal, nqr cannot ask whether to remove the data.",
            "Add --non-interactive to confirm.",
        )
