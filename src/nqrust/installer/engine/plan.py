"""A plan: phases in order, each with its steps. Data only: nothing here reads or changes a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from nqrust.installer.engine.step import Step


@dataclass(frozen=True)
class PhasePlan:
    """The steps of one phase.

    `notes`: sentences to report before the phase starts. `skipped`: why it has nothing to do. `keeps`: ids (shell patterns)
    of steps that this plan leaves out because of the machine, not the settings; a re-run must not retire them. `gives_up`:
    ids (patterns) excepted from `keeps`.
    """

    name: str
    title: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""
    keeps: tuple[str, ...] = ()
    gives_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Phases in execution order. The constructor checks that step ids are unique."""

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

    def asks_for(self, step_id: str) -> bool:
        """Return whether the result of this step stays: the plan contains the step, or a phase keeps it."""
        if any(step.id == step_id for _, step in self.steps()):
            return True

        def fits(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(step_id, pattern) for pattern in patterns)

        return any(fits(phase.keeps) and not fits(phase.gives_up) for phase in self.phases)
