"""`vm create` until the guest agent is up, over the VMM's own boot of the same kernel and disk on the same bridge."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Budget, line, note

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

ROUNDS = 7
SCRIPT = Path(__file__).with_name("boot_on_host.py")


def bench(host: Machine) -> None:
    host.push(SCRIPT, "/root/boot_on_host.py")
    told = json.loads(host.run(["python3", "-I", "/root/boot_on_host.py", str(ROUNDS)], timeout=1800).stdout)
    by_hand = statistics.median(told["hand"])
    middle = {what: statistics.median(one[what] for one in told["platform"]) for what in told["platform"][0]}
    for what, name in (("answer", "guest agent answers"), ("reported", "manager has its report")):
        more = (middle[what] - by_hand) * 1000
        line(
            f"vm create until {name}", f"{middle[what]:.2f} s, {more:+.0f} ms",
            f"{middle[what] / by_hand:.2f} x the VMM's own boot ({by_hand:.2f} s)", Budget("+300 ms", more <= 300),
        )  # fmt: skip
    note(f"medians of {ROUNDS}, by turns; the request was accepted after {middle['accepted'] * 1000:.0f} ms")
    note(f"by hand {min(told['hand']):.2f} to {max(told['hand']):.2f} s, by the platform "
         f"{min(one['reported'] for one in told['platform']):.2f} to {max(one['reported'] for one in told['platform']):.2f} s")  # fmt: skip
