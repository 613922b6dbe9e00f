"""Runs in a network namespace of its own: the boot script and nqr set the same rules at the same moment, again and again.

rules_by_two.py NETWORK_SCRIPT ROUNDS    prints as JSON: how many jumps there were after each round, the largest; whether the
                                         step was satisfied each time; seconds that the script waited for a lock held 1 s
"""

from __future__ import annotations

import fcntl
import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from tests.unit.installer.phases.test_bridged import context

from nqrust.host.local import LocalHost
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.phases.network import firewall
from nqrust.installer.settings.model import NetworkMode
from nqrust.installer.verbs.firewall.rules import IptablesRules

SCRIPT, ROUNDS = sys.argv[1], int(sys.argv[2])
HOST = LocalHost()


def steps() -> list[IptablesRules]:
    """The rules of the VM network, as the plan has them."""
    bridged = context()
    network = bridged.settings.network.model_copy(update={"mode": NetworkMode.nat, "bridge_name": "fcbr0"})
    nat = replace(bridged, settings=bridged.settings.model_copy(update={"network": network}))
    return [IptablesRules(spec, SCRIPT) for spec in firewall(nat)]


def jumps() -> int:
    """The most jumps into one of nqr's chains."""
    lines = [
        (program, line)
        for program in ("iptables", "ip6tables")
        for line in subprocess.run([program, "-S"], check=True, capture_output=True, text=True).stdout.splitlines()
        if "--comment nqrust" in line
    ]
    return max(map(lines.count, lines), default=0)


def waits() -> float:
    with Path(SCRIPT).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(1, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        began = time.monotonic()
        subprocess.run([SCRIPT, "up"], check=True)
        return round(time.monotonic() - began, 2)


def main() -> None:
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)  # of this network namespace
    most, satisfied, seconds = 0, True, waits()
    for _ in range(ROUNDS):
        subprocess.run([SCRIPT, "down"], check=True)
        with subprocess.Popen([SCRIPT, "up"]):
            time.sleep(random.uniform(0, 0.1))
            for step in steps():
                step.apply(HOST)
        most = max(most, jumps())
        satisfied = satisfied and all(isinstance(step.inspect(HOST), Satisfied) for step in steps())
    json.dump({"most jumps": most, "satisfied": satisfied, "waited": seconds}, sys.stdout)


main()
