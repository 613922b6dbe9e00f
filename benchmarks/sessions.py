"""Commands in a guest through one agent: create until the first answer, the time of a command, and bytes in both directions."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.figures import ROOT, Budget, line, note
from tests.machine_scripts.calling import run_script

from nqrust.host.local import LocalHost
from nqrust.image import tiny
from nqrust.image.guest_agent import build_guest_agent

COMMANDS, MEBIBYTES = 200, 64
CACHE = "/var/tmp/nqrust-test-packages"


def bench() -> None:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))
    (work / "vms").mkdir()
    for folder in (work, work / "vms"):
        folder.chmod(0o711)  # users of VMs pass through it
    try:
        host = LocalHost()
        build_guest_agent(host, str(ROOT / "guest-agent"), str(work / "guest-agent"))
        tiny.build(host, target_dir=str(work / "tiny"), guest_agent=str(work / "guest-agent"), cache_dir=CACHE)
        namespaces = ("net", "mount")
        seen = run_script(
            "guest_sessions_long.py", work / "tiny", work / "vms", COMMANDS, MEBIBYTES, namespaces=namespaces, seconds=900
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    more = (seen["answered"] - seen["boot"]) * 1000
    line(
        "create until the first command is answered", f"{seen['answered']:.2f} s, {more:+.0f} ms",
        f"the VMM's own boot until its guest agent starts ({seen['boot']:.2f} s)", Budget("+100 ms", more <= 100),
    )  # fmt: skip
    after = (seen["answered"] - seen["started"] - seen["boot"]) * 1000
    note(
        f"the VMM starts {seen['started'] * 1000:.0f} ms after the request; the answer comes {after:.0f} ms after the guest agent"
    )
    line(f"a command, {COMMANDS} in a row", f"{seen['many']['ms_each']:.1f} ms", "a WebSocket and a process each")
    line(f"copy {MEBIBYTES} MiB into the guest", f"{seen['large']['up_mib']:.1f} MiB/s")
    line(f"copy {MEBIBYTES} MiB out of the guest", f"{seen['large']['down_mib']:.1f} MiB/s")
    note("the guest of these figures runs under QEMU; without KVM, emulation takes most of each of them")
