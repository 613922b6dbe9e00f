"""Turns settings, facts and a release into a plan. Pure: reads and changes no machine."""

from __future__ import annotations

from dataclasses import replace

from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.retire import MAKES_WAY
from nqrust.installer.engine.step import Step
from nqrust.installer.phases import build, config, database, deps, kvm, network, services, sudo
from nqrust.installer.phases.order import PHASES

_PLANNERS = {
    "deps": deps.plan,
    "kvm": kvm.plan,
    "network": network.plan,
    "database": database.plan,
    "build": build.plan,
    "config": config.plan,
    "sudo": sudo.plan,
    "services": services.plan,
}
"""Phases with steps."""


def plan(context: Context, only: str | None = None) -> Plan:
    """Return the whole plan, or the plan of one phase (`only`). Phases keep their order."""
    if only is not None:
        return Plan(tuple(_alone(context, name) for name in _PLANNERS if name == only))
    seen: dict[str, Step] = {}
    return Plan(tuple(_without_repeats(_PLANNERS[name](context), seen) for name in PHASES if name in _PLANNERS))


def _alone(context: Context, name: str) -> PhasePlan:
    """Return a phase without later phases. It registers its images now, and stops no service that only a later phase would
    start."""
    phase = _PLANNERS[name](context)
    steps = [step for step in phase.steps if step.kind != MAKES_WAY]
    if name == "build":
        steps += build.registered_images(context, "build")
    return replace(phase, steps=tuple(steps))


def _without_repeats(phase: PhasePlan, seen: dict[str, Step]) -> PhasePlan:
    """Return the phase without steps of earlier phases. Phases may repeat a step (such as a folder), so that each can run
    alone."""
    kept = []
    for step in phase.steps:
        if seen.get(step.id) != step:
            kept.append(step)
            seen[step.id] = step
    return replace(phase, steps=tuple(kept))
