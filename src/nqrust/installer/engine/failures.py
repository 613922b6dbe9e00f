"""The failures of a step, in the words of a run."""

from __future__ import annotations

from nqrust.host.errors import HostError, NoSpace
from nqrust.installer.engine.errors import StepConflict, StepFailed
from nqrust.installer.engine.step import Conflict, Step


def conflict(found: Conflict) -> StepConflict:
    return StepConflict(found.code, found.why, found.cure)


def unforeseen(doing: str, error: Exception) -> StepFailed:
    failure = StepFailed(
        "NQR-ENG-999",
        f"“{doing}” met an error that nqr did not expect: {type(error).__name__}: {error}.",
        "Please report it with the log of this run.",
    )
    failure.__cause__ = error
    return failure


def wrapped(step: Step, error: HostError, verb: str) -> StepFailed:
    if isinstance(error, NoSpace):
        return StepFailed(
            "NQR-ENG-006",
            f"“{step.describe()}” {verb}: the file system of {error.path} is full.",
            "Free space there and run the same command again.",
        )
    return StepFailed(
        "NQR-ENG-001",
        f"“{step.describe()}” {verb}: {error}.",
        "Fix the cause and run the same command again. The log has the whole output.",
    )
