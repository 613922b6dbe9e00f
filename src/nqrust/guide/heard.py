"""The visible state of a running install. The run reports events in its own thread; the screen takes them and folds them into a
`Course`. Pure, except for the queue between the two threads."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from nqrust.guide import forecast
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Proof,
    StepFinished,
    StepProgress,
    StepStarted,
)
from nqrust.installer.request import PlanPreview

_CHECKS = "NQR-PRE-"
"""The checks repeat what the first screen said."""


class Heard:
    """A reporter that keeps events until the screen takes them. Safe between two threads."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def emit(self, event: Event) -> None:
        self._events.append(event)

    def take(self) -> list[Event]:
        """Return the events since the last call, oldest first."""
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found


@dataclass
class Phase:
    """`state`: waiting | running | done | failed. `finished` of `steps` steps have ended."""

    name: str
    steps: int
    state: str = "waiting"
    finished: int = 0
    changed: int = 0
    seconds: float = 0.0


@dataclass
class Course:
    """The state of an install. `now`: the running step. `expected` and `done`: seconds of work, see forecast.py."""

    phases: list[Phase]
    expected: float
    kinds: dict[str, str]
    done: float = 0.0
    now: str = ""
    note: str = ""
    fraction: float = 0.0
    notices: list[Notice] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    undone: int = 0
    _step: str = ""
    _proving: bool = False

    @classmethod
    def of(cls, preview: PlanPreview) -> Course:
        """Return the course of a planned install, before its first event."""
        steps = [step for phase in preview.phases for step in phase.changes]
        phases = [Phase(p.name, len(p.changes)) for p in preview.phases if p.changes]
        return cls([*phases, Phase("verify", 0)], forecast.total(steps), {step.id: step.kind for step in steps})

    def apply(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._started(event)
        elif isinstance(event, StepStarted):
            self._step, self.now, self.note, self.fraction = event.id, event.describe, "", 0.0
        elif isinstance(event, StepProgress):
            self.note = event.text or self.note
            self.fraction = max(0.0, min(1.0, event.fraction)) if event.fraction is not None else self.fraction
        elif isinstance(event, StepFinished):
            self._finished(event)
        elif isinstance(event, PhaseFinished):
            self._ended(event)
        elif isinstance(event, Notice) and event.severity != "info" and not event.code.startswith(_CHECKS):
            self.notices.append(event)
        elif isinstance(event, Proof):
            self.proofs.append(event)

    def _phase(self, name: str) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)

    def _started(self, event: PhaseStarted) -> None:
        phase = self._phase(event.name)
        if phase is not None:
            phase.state = "running"
        if event.name == "verify":
            self.now, self.note, self._proving = "boot a test VM and ask every part", "", True

    def _finished(self, event: StepFinished) -> None:
        if event.outcome in ("undone", "kept", "undo-failed"):
            self.undone += 1
            self.now, self.note = f"undo: {event.describe}", ""
            return
        phase = self._phase(event.phase)
        if phase is not None and event.id in self.kinds:
            phase.finished += 1
            phase.changed += event.outcome == "changed"
        if phase is not None and event.outcome == "failed":
            phase.state = "failed"
        if event.id in self.kinds:
            self.done += forecast.seconds(self.kinds.pop(event.id))
        self.now, self.note, self.fraction, self._step = "", "", 0.0, ""

    def _ended(self, event: PhaseFinished) -> None:
        phase = self._phase(event.name)
        if phase is not None:
            phase.state = "done" if phase.state != "failed" else phase.state
            phase.changed, phase.seconds = event.changed, event.seconds
        if event.name == "verify":
            self.done = self.expected

    def remaining(self, elapsed: float, in_step: float) -> float:
        """Return seconds until the end. `elapsed` since the start, `in_step` since the start of the running step."""
        if self._proving:
            return max(1.0, forecast.PROOF - in_step) if self.done < self.expected else 0.0
        running = forecast.seconds(self.kinds.get(self._step, "")) if self._step else 0.0
        part = max(self.fraction * running, min(in_step, running * 0.9))
        return forecast.left(self.expected, self.done + part, elapsed)

    def share(self) -> float:
        """Return the finished part of the work, from 0 to 1."""
        return min(1.0, self.done / self.expected) if self.expected else 1.0
