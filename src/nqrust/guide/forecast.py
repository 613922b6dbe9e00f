"""How long an install takes. Measured on a host with two CPUs; the pace of the run corrects it."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.installer.request import StepPreview

SECONDS = {
    "package-index": 5.0,
    "packages": 55.0,
    "build-release": 36.0,
    "fetch-release": 30.0,
    "copy-release": 3.0,
    "unpack-bundle": 10.0,
    "wheelhouse": 8.0,
    "python-environment": 8.0,
    "built-image": 7.0,
    "firecracker": 2.0,
    "vmm-verdict": 15.0,
    "own-card": 5.0,
    "postgres-cluster": 5.0,
    "migrate": 2.5,
    "service": 1.0,
    "healthy": 1.5,
}
"""Kind of step -> seconds. The other kinds need no noticeable time."""
PROOF = 14.0
"""Seconds until a test VM has booted and answered."""
_TRUST = 30.0
"""Seconds of work after which the pace of this host counts as much as the measured one."""


def seconds(kind: str) -> float:
    return SECONDS.get(kind, 0.05)


def total(steps: Iterable[StepPreview]) -> float:
    """Return seconds for all steps and the proof."""
    return sum(seconds(step.kind) for step in steps) + PROOF


def left(expected: float, done: float, elapsed: float) -> float:
    """Return the seconds that are left. `expected`: of the whole run. `done`: what its finished part was expected to take.
    `elapsed`: what that part took."""
    pace = (elapsed + _TRUST) / (done + _TRUST)
    return max(0.0, expected - done) * pace


def words(remaining: float) -> str:
    """Return seconds as people say them: `about 4 minutes`."""
    if remaining < 10:
        return "a few seconds"
    if remaining < 60:
        return f"about {round(remaining / 10) * 10} seconds"
    minutes = max(1, round(remaining / 60))
    return f"about {minutes} minute{'' if minutes == 1 else 's'}"
