"""Settings, facts and a release become a plan. Pure: nothing here reads or changes a machine."""

from __future__ import annotations

from dataclasses import replace

from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.step import Step
from nqrust.installer.phases import build, config, database, deps, kvm, network, services, sudo
from nqrust.installer.phases.context import Context

PHASES = ("preflight", "deps", "kvm", "network", "database", "build", "config", "sudo", "services", "verify")
"""Upstream's ten, in their order."""

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
"""preflight and verify only look, so they have no steps: they run before and after the plan."""


def plan(context: Context, only: str | None = None) -> Plan:
    """The whole plan, or that of one phase (`only`). Phases always come in their order."""
    wanted = [name for name in PHASES if name in _PLANNERS and only in (None, name)]
    seen: dict[str, Step] = {}
    return Plan(tuple(_without_repeats(_PLANNERS[name](context), seen) for name in wanted))


def _without_repeats(phase: PhasePlan, seen: dict[str, Step]) -> PhasePlan:
    """Phases may ask for the same thing (a folder), each for itself so that it can run alone; it is done once."""
    kept = []
    for step in phase.steps:
        if seen.get(step.id) != step:
            kept.append(step)
            seen[step.id] = step
    return replace(phase, steps=tuple(kept))
