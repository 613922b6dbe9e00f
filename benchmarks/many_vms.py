"""A hundred VMs of 64 MiB on one agent: create, list, restart of the agent, delete; under Firecracker and under QEMU with KVM."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import line, note
from tests import bare_guest, real_firecracker
from tests.machine_scripts.calling import run_script

COUNT = 100


def bench() -> None:
    reason = real_firecracker.why_not()
    if reason:
        note(f"{COUNT} VMs are not measured: {reason}")
        return
    for vmm in ("firecracker", "qemu"):
        _show(vmm, _measured(vmm))


def _measured(vmm: str) -> dict[str, Any]:
    programs = str(real_firecracker.programs()) if vmm == "firecracker" else "-"
    work = Path(tempfile.mkdtemp(prefix="nqr-"))
    work.chmod(0o711)  # users of VMs pass through it
    try:
        image = work / "bare"
        image.mkdir()
        bare_guest.image(image, "nqr.halt")
        return dict(run_script("many_vms.py", image, work, programs, vmm, COUNT, namespaces=("net", "mount"), seconds=1200))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _show(vmm: str, seen: dict[str, Any]) -> None:
    running = f"{seen['running']} of {COUNT} run"
    for what, key in (("create", "create_seconds"), ("delete", "delete_seconds")):
        line(
            f"{vmm}: {what} {COUNT} VMs, four at once", f"{seen[key]:.1f} s", f"{seen[key] / COUNT * 1000:.0f} ms a VM, {running}"
        )
    line(f"{vmm}: list {COUNT} VMs (one inventory)", f"{seen['list_seconds'] * 1000:.0f} ms")
    same = "the same processes run" if seen["same_pids"] else "NOT the same processes run"
    line(f"{vmm}: agent stopped, started and listing", f"{seen['restart_seconds']:.1f} s", same)
    line(
        f"{vmm}: resident memory of the agent", f"{seen['agent_mib']:.0f} MiB",
        f"{seen['agent_mib_without']:.0f} MiB without VMs, {seen['agent_mib_after_restart']:.0f} MiB after its restart",
    )  # fmt: skip
