"""Commands of nqr on an installed host, over an interpreter that does nothing, and over one that asks the manager for its VMs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import line, note, under

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

ROUNDS = 15
SCRIPT = Path(__file__).with_name("commands_on_host.py")
BUDGETS = {"nqr --help": 0.15, "nqr vm ls": 0.25, "nqr status": 0.5}


def bench(host: Machine) -> None:
    host.push(SCRIPT, "/root/commands_on_host.py")
    told = json.loads(host.run(["python3", "-I", "/root/commands_on_host.py", str(ROUNDS)], timeout=600).stdout)
    middle = {name: statistics.median(seconds) for name, seconds in told.items()}
    for name, budget in BUDGETS.items():
        ratio = (
            f"{middle[name] / middle['nothing']:.1f} x `python -c pass`, {middle[name] / middle['get']:.1f} x a GET of the VMs"
        )
        line(f"{name}, installed", f"{middle[name]:.3f} s", ratio, under(middle[name], budget, "s"))
    note(f"medians of {ROUNDS}, by turns; python -c pass {middle['nothing']:.3f} s, a GET of the VMs {middle['get']:.3f} s")
