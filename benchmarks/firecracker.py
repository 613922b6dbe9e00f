"""VMs under a jailed Firecracker: create until the guest's first line, and restore of a memory snapshot, over the same by hand."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import ROOT, Budget, line, note
from tests import bare_guest, real_firecracker

ROUNDS = 15
SCRIPT = Path(__file__).with_name("firecracker_by_turns.py")
BUDGETS = (("create", "create until the guest's first line", 60), ("restore", "restore of a memory snapshot", 20))


def bench() -> None:
    reason = real_firecracker.why_not()
    if reason:
        note(f"not measured under Firecracker: {reason}")
        return
    programs = real_firecracker.programs()
    work = Path(tempfile.mkdtemp(prefix="nqr-"))
    work.chmod(0o711)  # users of VMs pass through it
    try:
        image = work / "bare"
        image.mkdir()
        bare_guest.image(image, "nqr.halt")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        argv = ["unshare", "--net", "--mount", sys.executable, SCRIPT, image, work, programs, str(ROUNDS)]
        found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for name, what, limit in BUDGETS:
        hand = found[f"{name} by hand"]
        more = statistics.median(ours - theirs for ours, theirs in zip(found[name], hand, strict=True)) * 1000
        line(
            f"Firecracker: {what}", f"{_ms(found[name])}, {more:+.0f} ms",
            f"{_ms(hand)} by hand", Budget(f"+{limit} ms", more <= limit),
        )  # fmt: skip
        note(f"the VMM alone by hand, in a jail with disk and TAP: {_ms(found[f'{name} by hand, VMM alone'])}")
    note(f"start of a stopped VM until its first line: {_ms(found['start'])}; medians of {ROUNDS}, by turns")


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.0f} ms"
