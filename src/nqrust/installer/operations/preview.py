"""A reporter that collects a preview's events into a PlanPreview."""

from __future__ import annotations

from dataclasses import dataclass, field

from nqrust.installer.engine.events import Event, Notice, PhaseStarted, StepFinished
from nqrust.installer.request import PhasePreview, PlanPreview, StepPreview


@dataclass
class _Phase:
    name: str
    title: str
    skipped: str
    changes: list[StepPreview] = field(default_factory=list)
    satisfied: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Previewer:
    """A reporter. `preview` contains the events so far."""

    verb: str
    phases: list[_Phase] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self.phases.append(_Phase(event.name, event.title, event.skipped))
        elif isinstance(event, Notice):
            if event.severity == "info" and self.phases:
                self.phases[-1].notes.append(event.text)
            else:
                self.warnings.append(event.text)
        elif isinstance(event, StepFinished) and self.phases:
            if event.outcome == "satisfied":
                self.phases[-1].satisfied += 1
            else:
                conflict = event.note if event.outcome == "conflict" else ""
                self.phases[-1].changes.append(StepPreview(event.id, event.kind, event.describe, event.diff, conflict))

    @property
    def preview(self) -> PlanPreview:
        return PlanPreview(
            self.verb,
            tuple(PhasePreview(p.name, p.title, tuple(p.changes), p.satisfied, tuple(p.notes), p.skipped) for p in self.phases),
            tuple(self.warnings),
        )
