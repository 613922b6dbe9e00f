"""The state that the screens share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nqrust.guide.backend import Answers, Backend
from nqrust.guide.heard import Heard
from nqrust.guide.work import Work
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.operations.looking import HostLook
from nqrust.installer.request import PlanPreview, Summary
from nqrust.installer.settings.sources import Gathered


class Guiding(Protocol):
    """The application, as its screens see it."""

    state: State

    def go(self, name: str) -> None:
        """Show another screen."""
        ...

    def rehearse(self) -> None:
        """Leave for a rehearsal."""
        ...

    def review_again(self, message: str) -> None:
        """Show the review with a new plan, and with a sentence on why."""
        ...

    def finish(self) -> None:
        """Leave after the install."""
        ...

    def fail(self, error: Exception) -> None:
        """Leave with an error that no screen can show."""
        ...


@dataclass
class Run:
    """A running install: its work, its events and its signal flag."""

    work: Work[Summary]
    heard: Heard
    interruption: Interruption


@dataclass
class State:
    """`found`: the settings with the answers so far. `reviewed`: the plan that a person accepts. `message`: a sentence for the
    next review. The state outlives the screens, so that a rehearsal can come back to the review."""

    backend: Backend
    found: Gathered
    answers: Answers = field(default_factory=Answers)
    look: HostLook | None = None
    reviewed: PlanPreview | None = None
    message: str = ""
    run: Run | None = None
    summary: Summary | None = None
    signal: int = 0

    def answer(self, answers: Answers) -> None:
        """Take new answers. Raises UsageError and keeps the former ones if they are not valid."""
        self.found = self.backend.settle(answers)
        self.answers = answers
        self.reviewed = None

    def start(self) -> Run:
        """Start the install of the reviewed plan in its own thread."""
        reviewed, heard, interruption = self.reviewed, Heard(), Interruption()
        assert reviewed is not None
        found, backend = self.found, self.backend
        work = Work(lambda: backend.install(found, reviewed, heard, interruption), must_end=True)
        self.run = Run(work, heard, interruption)
        return self.run
