"""Commands in a guest through one agent: create until the first answer, the time of a command, and bytes in both directions."""

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
from tests.machine_scripts.calling import run_script

from nqrust.host.local import LocalHost
from nqrust.image import tiny
from nqrust.image.guest_agent import build_guest_agent

ROUNDS, COMMANDS, MEBIBYTES = 15, 200, 64
CACHE = "/var/tmp/nqrust-test-packages"
SCRIPT = Path(__file__).with_name("sessions_by_turns.py")


def bench() -> None:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))
    for folder in (work, work / "turns", work / "vms"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)  # users of VMs pass through it
    try:
        host = LocalHost()
        build_guest_agent(host, str(ROOT / "guest-agent"), str(work / "guest-agent"))
        tiny.build(host, target_dir=str(work / "tiny"), guest_agent=str(work / "guest-agent"), cache_dir=CACHE)
        argv = ["unshare", "--net", "--mount", sys.executable, SCRIPT, work / "tiny", work / "turns", str(ROUNDS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=environment).stdout)
        namespaces = ("net", "mount")
        seen = run_script(
            "guest_sessions_long.py", work / "tiny", work / "vms", COMMANDS, MEBIBYTES, namespaces=namespaces, seconds=900
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    more = statistics.median(ours - theirs for ours, theirs in zip(found["platform"], found["hand"], strict=True)) * 1000
    line(
        "create until the first command is answered", f"{statistics.median(found['platform']):.2f} s, {more:+.0f} ms",
        f"the VMM's own boot until its guest agent answers ({statistics.median(found['hand']):.2f} s)",
        Budget("+100 ms", more <= 100),
    )  # fmt: skip
    note(f"medians of {ROUNDS}, by turns; the VMM starts {statistics.median(found['started']) * 1000:.0f} ms after the request")
    line(f"a command, {COMMANDS} in a row", f"{seen['many']['ms_each']:.1f} ms", "a WebSocket and a process each")
    line(f"copy {MEBIBYTES} MiB into the guest", f"{seen['large']['up_mib']:.1f} MiB/s")
    line(f"copy {MEBIBYTES} MiB out of the guest", f"{seen['large']['down_mib']:.1f} MiB/s")
    note("the guest of these figures runs under QEMU; without KVM, emulation takes most of each of them")
