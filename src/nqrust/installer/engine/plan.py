"""A plan: phases in order, each with its steps. Data; nothing here reads or changes a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nqrust.installer.engine.step import Step


@dataclass(frozen=True)
class PhasePlan:
    """`notes` are sentences worth telling before the phase starts; `skipped` says why it has nothing to do."""

    name: str
    title: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Plan:
    """Phases in the order in which they run. Step ids are unique (checked when built)."""

    phases: tuple[PhasePlan, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for _, step in self.steps():
            if step.id in seen:
                raise ValueError(f"two steps with the id {step.id}")
            seen.add(step.id)

    def steps(self) -> Iterator[tuple[PhasePlan, Step]]:
        for phase in self.phases:
            for step in phase.steps:
                yield phase, step
