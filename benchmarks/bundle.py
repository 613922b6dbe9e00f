"""An install from a bundle, on a pristine host without a network."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import line, note, under
from benchmarks.install import CLONE, INSTALL, metered

ROOT = Path(__file__).resolve().parents[1]
GOAL = 30  # seconds
BUNDLE = "/mnt/nqrust.tar.zst"


def bench() -> None:
    from tests.hosts.machine import Machine, TestNetwork

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "nqrust.tar.zst"
        began = time.monotonic()
        build = [sys.executable, "-m", "nqrust.cli", "bundle", "build", "--with", "images", "--source", str(ROOT)]
        subprocess.run([*build, "--output", str(bundle)], check=True, stdin=subprocess.DEVNULL, cwd="/")
        note(f"a bundle of {bundle.stat().st_size / 1e6:.0f} MB, built in {time.monotonic() - began:.1f} s")
        with TestNetwork(outward=False) as network, Machine(network=network, primed=False) as host:
            host.clone_repository(CLONE)
            host.push(bundle, BUNDLE)
            run = metered(host, f"{INSTALL} --release {BUNDLE}")
    inside = sum(phase["seconds"] for phase in run.summary["phases"])
    note(f"bootstrap    {run.seconds - inside:.1f} s, and the plan")
    for phase in run.summary["phases"]:
        note(f"{phase['name']:<12} {phase['seconds']:.1f} s")
    for step, seconds in run.slow_steps(0.5):
        note(f"    {seconds:6.1f} s  {step}")
    note(f"processors   {run.busy:.1f} s, without services")
    proofs = max(proof["seconds"] for proof in run.summary["proofs"])
    verdict = dict(run.slow_steps(0)).get("vmm-verdict", 0.0)
    waits = f"proofs: {proofs:.1f} s, verdict on KVM: {verdict:.1f} s"
    line("install from a bundle", f"{run.seconds:.1f} s", waits, under(run.seconds, GOAL, "s"))
