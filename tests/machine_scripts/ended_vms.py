"""In PID, mount and network namespaces of its own: which processes the undo of VMs and that of supervisord end, in Python and as
a shell script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nqrust.contract.names import SCOPE_ENV, TAP_ALIAS, VM_USERS
from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.network import shell as network_shell
from nqrust.installer.verbs.service import shell
from nqrust.installer.verbs.service.undo import supervisord, undo_supervisord, undo_vms, vms

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


CONFIG = "/etc/x/supervisord.conf"
HOLDERS = {
    "supervisord": (0, "supervisord", CONFIG),
    "pretender": (1000, "supervisord", CONFIG),
    "editor": (0, "vim", CONFIG),
    "another": (0, "supervisord", "/etc/y/supervisord.conf"),
}


def left_of_holders(undo: Callable[[], object]) -> list[str]:
    running = {}
    for name, (user, program, config) in HOLDERS.items():
        path = Path(WORK, program)
        path.write_text("import time\ntime.sleep(300)\n")
        become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", sys.executable, str(path), "-c", config)
        running[name] = subprocess.Popen(become)
    time.sleep(1.0)
    try:
        undo()
        time.sleep(0.2)
        return sorted(name for name, process in running.items() if process.poll() is None)
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def run_in_shell(lines: Iterator[str]) -> None:
    calls = "\n".join(lines)
    prelude = 'missed=""\nkept() { :; }\ntry() { "$@"; }\nhas() { command -v "$1" >/dev/null; }'
    script = f"{prelude}\n{network_shell.FUNCTIONS}\n{shell.FUNCTIONS}\n{calls}\n"
    subprocess.run(["sh", "-eu", "-c", script], check=False, timeout=120)


subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
host = LocalHost()
WORK = tempfile.mkdtemp()
os.chmod(WORK, 0o755)
context = UndoContext(host, Originals(host, "/nowhere"))
of_vms, of_supervisord = undo_vms("fc-").args, undo_supervisord(CONFIG, "/nowhere").args
try:
    found = {
        "vms": {
            "python": left_after(lambda: vms(context, of_vms)),
            "shell": left_after(lambda: run_in_shell(shell.vms(context, of_vms))),
        },
        "supervisord": {
            "python": left_of_holders(lambda: supervisord(context, of_supervisord)),
            "shell": left_of_holders(lambda: run_in_shell(shell.supervisord(context, of_supervisord))),
        },
    }
finally:
    shutil.rmtree(WORK)
json.dump(found, sys.stdout)
