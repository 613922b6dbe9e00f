"""A converged re-run over the same state described to Ansible, on the same host."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Budget, line, note

if TYPE_CHECKING:
    from tests.hosts.machine import Machine

HOME = "/root/ansible"
GENERATOR = Path(__file__).with_name("playbook.py")
ENVIRONMENT = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_LOCALHOST_WARNING": "0"}
ROUNDS = 3
DRIFT = "/etc/sysctl.d/90-nqrust-microvm.conf"
"""Put out of order before the first run, which is not counted: a playbook that did not mend it would describe nothing."""


def bench(host: Machine, checkout: str, converged: float) -> None:
    """`converged`: seconds of nqr's own run there. Ansible is installed on the host, by name, for this alone."""
    host.push(GENERATOR, f"{HOME}/generate.py")
    host.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "python3-apt", "python3-venv"], timeout=600)
    host.run(f"python3 -m venv {HOME}/venv && {HOME}/venv/bin/pip -q install ansible-core", timeout=900)
    told = host.run(["/opt/nqrust-microvm/installer/venv/bin/python", "-I", f"{HOME}/generate.py", checkout])
    host.write(f"{HOME}/playbook.json", told.stdout, mode=0o600)
    tasks = json.loads(told.stdout)[0]["tasks"]
    host.run(["chmod", "0600", DRIFT])
    seconds = []
    for number in range(ROUNDS + 1):
        began = time.monotonic()
        done = host.run([f"{HOME}/venv/bin/ansible-playbook", f"{HOME}/playbook.json"], env=ENVIRONMENT, timeout=900, check=False)
        seconds.append(time.monotonic() - began)
        recap = re.search(r"ok=(\d+)\s+changed=(\d+)\s+.*failed=(\d+)", done.stdout)
        if done.code or recap is None:
            sys.exit(f"ansible-playbook: {done.describe()[-3000:]}")
        if (int(recap[2]) > 0) != (number == 0):
            sys.exit(f"the playbook should mend a file in its first run and nothing after that: {recap[0]} in run {number}")
    took = sorted(seconds[1:])[ROUNDS // 2]
    line("converged re-run over Ansible's", f"{converged:.2f} s against {took:.1f} s", f"{took / converged:.1f} x faster",
         Budget("10 x", took >= 10 * converged))  # fmt: skip
    items = sum(len(task.get("loop", [0])) for task in tasks)
    note(f"Ansible: {len(tasks)} tasks for {items} things, none changed; pipelining on, no facts gathered")
