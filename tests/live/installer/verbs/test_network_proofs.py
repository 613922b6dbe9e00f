"""Whether a gateway answers, asked of a kernel with a real neighbour in another namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

LINKS = """
unshare --net sleep 60 & far=$!; trap 'kill "$far"' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set lo up; ip link add nic type veth peer name far; ip link set far netns "$far"
nsenter --target "$far" --net sh -c 'ip link set far address 02:00:00:00:00:01; ip link set far up; ip address add 192.0.2.1/24 dev far'
ip link set nic up; ip address add 192.0.2.2/24 dev nic
ip route add default via 192.0.2.1 dev nic; ip route add 198.51.100.0/24 via 192.0.2.9 dev nic
"""
ASKS = """
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.network.guard.proofs import silent_gateways
print("silent:", *silent_gateways(LocalHost(), ("192.0.2.1", "192.0.2.9"), ("nic",)))
"""


def asked(*lines: str) -> str:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs root, unshare, nsenter and ip")
    script = "\n".join([LINKS, *lines, '"$1" -c "$2"', "ip neigh show dev nic"])
    argv = ["unshare", "--net", "bash", "-euc", script, "bash", sys.executable, ASKS]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gateway_that_is_not_there_is_silent() -> None:
    assert "silent: 192.0.2.9\n" in asked()


def test_entry_of_an_administrator_is_no_answer_and_stays() -> None:
    """The wrong address of the second gateway proves nothing, and is not for nqr to correct."""
    shown = asked(
        "ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev nic nud permanent",
        "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev nic nud permanent",
    )
    assert "silent: 192.0.2.9\n" in shown
    assert "192.0.2.1 lladdr 02:00:00:00:00:01 PERMANENT" in shown and "192.0.2.9 lladdr 02:00:00:00:00:09 PERMANENT" in shown
