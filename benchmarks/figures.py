"""One line a figure: what, measured, the ratio to what it cannot avoid, the budget, whether it was kept."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Budget:
    """`text`: as DESIGN says it; `kept`: whether this run's figure is inside it."""

    text: str
    kept: bool


def under(value: float, limit: float, unit: str) -> Budget:
    """A budget that is an upper limit in `unit`."""
    return Budget(f"{limit:g} {unit}", value <= limit)


def line(what: str, measured: str, ratio: str = "", budget: Budget | None = None) -> None:
    verdict = "" if budget is None else f"budget {budget.text}: {'kept' if budget.kept else 'MISSED'}"
    print(f"{what:<46} {measured:<30} {ratio:<44} {verdict}".rstrip(), flush=True)


def note(text: str) -> None:
    print(f"    {text}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` (0..1) of all."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


def median_seconds(argv: Sequence[str], runs: int = 15) -> float:
    """Of running a program to its end, from nothing."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
