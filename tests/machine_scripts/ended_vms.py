"""In PID, mount and network namespaces of its own: which processes the undo of VMs ends, in Python and as a shell script."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nqrust.contract.names import SCOPE_ENV, TAP_ALIAS, VM_USERS
from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.network import shell as network_shell
from nqrust.installer.verbs.service import shell
from nqrust.installer.verbs.service.undo import undo_vms, vms

CLAIM = {SCOPE_ENV: "fc-a1"}
KINDS: dict[str, tuple[int, dict[str, str]]] = {
    "jailed": (VM_USERS[0], {}),
    "last": (VM_USERS[-1], CLAIM),
    "launcher": (0, CLAIM),
    "root": (0, {"PATH": "/usr/bin:/bin"}),
    "pretender": (1000, CLAIM),
    "killer": (VM_USERS[-1] + 1, {}),
}


def left_after(undo: Callable[[], object]) -> list[str]:
    running = {}
    for link, alias in (("tap1", f"{TAP_ALIAS}a1"), ("other", "another")):
        subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "set", link, "alias", alias], check=True)
    for name, (user, env) in KINDS.items():
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sleep", "300")
        running[name] = subprocess.Popen(become, env={**env, "PATH": "/usr/bin:/bin"})
    time.sleep(0.5)
    try:
        undo()
        time.sleep(0.2)
        links = [link for link in ("tap1", "other") if Path(f"/sys/class/net/{link}").exists()]
        return sorted([*links, *(name for name, process in running.items() if process.poll() is None)])
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def by_shell() -> None:
    calls = "\n".join(shell.vms(UndoContext(host, Originals(host, "/nowhere")), undo_vms("fc-").args))
    prelude = 'missed=""\nkept() { :; }\ntry() { "$@"; }\nhas() { command -v "$1" >/dev/null; }'
    script = f"{prelude}\n{network_shell.FUNCTIONS}\n{shell.FUNCTIONS}\n{calls}\n"
    subprocess.run(["sh", "-eu", "-c", script], check=False, timeout=120)


subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
host = LocalHost()
json.dump(
    {
        "python": left_after(lambda: vms(UndoContext(host, Originals(host, "/nowhere")), undo_vms("fc-").args)),
        "shell": left_after(by_shell),
    },
    sys.stdout,
)
