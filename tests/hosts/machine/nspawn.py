"""Starting a tree with systemd-nspawn(1), and finding the process that is PID 1 inside."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.hosts.machine.outside import PATH, Process, children
from tests.hosts.machine.result import MachineError


def launch(
    tree: Path,
    *,
    name: str,
    bridge: str,
    systemd: bool,
    unified: bool,
    options: list[str],
    cgroup_files: list[Path],
    console: Path,
) -> subprocess.Popen[bytes]:
    """Start the container in its own control group; its console goes to the file `console`."""
    argv = [
        "systemd-nspawn", f"--directory={tree}", f"--machine={name}", "--quiet", "--settings=no", "--register=no", "--keep-unit",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--capability=all",
        "--system-call-filter=@mount bpf keyctl", f"--network-bridge={bridge}", *options,
    ]  # fmt: skip
    argv += ["--boot"] if systemd else ["--as-pid2", "sleep", "infinity"]
    # Two systemds in one control group would end each other's services. `keep-unit` takes the group we are in, so the
    # shell enters it first and then becomes nspawn.
    enter = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
    # A Debian server has /tmp on its disk; a tmpfs would hide what is written there.
    environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "SYSTEMD_NSPAWN_TMPFS_TMP": "0", "SYSTEMD_NSPAWN_LOCK": "0"}
    if unified:
        environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    with console.open("ab") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", *map(str, cgroup_files), "--", *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip


def leader_of(process: subprocess.Popen[bytes], *, systemd: bool, console: Path, timeout: float = 30.0) -> Process:
    """The container's PID 1 once it has become what it shall be. Raises MachineError with the console's end."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        leader = find_leader(process.pid, systemd=systemd)
        if leader:
            return leader
        time.sleep(0.02)
    raise MachineError(f"the container did not start:\n{console.read_text(errors='replace')[-3000:]}")


def find_leader(nspawn: int, *, systemd: bool) -> Process | None:
    """PID 1 of the container that a running nspawn holds, once it is more than nspawn's own helper."""
    own = os.readlink("/proc/self/ns/pid")
    for pid in children(nspawn):
        try:
            inside = os.readlink(f"/proc/{pid}/ns/pid") != own
            ready = Path(f"/proc/{pid}/comm").read_text().strip() == "systemd" if systemd else bool(children(pid))
        except OSError:
            continue
        if inside and ready:
            return Process.of(pid)
    return None
