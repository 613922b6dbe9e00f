"""What the host remembers of a VM's connections ends with the VM, and with a forward. The rules run for real in namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.machine_scripts.calling import run_script

from nqrust.contract.vms import StopRequest
from nqrust.host.local import LocalHost
from nqrust.host.port import Connections

from .conftest import VM, Bench

GUEST = Connections("10.0.0.20")


def ended(bench: Bench) -> list[Connections]:
    return getattr(bench.forwards.connections, "ended", [])


def test_a_vm_starts_without_connections_of_its_address_and_leaves_none(bench: Bench) -> None:
    begin, before = bench.vmm.begin, []

    def begins(machine: object) -> None:
        before.extend(ended(bench))
        begin(machine)  # type: ignore[arg-type]

    bench.vmm.begin = begins  # type: ignore[method-assign]
    bench.service.put(bench.spec())
    assert before == [GUEST], "before its guest begins"
    bench.service.put(bench.spec())
    assert ended(bench) == [GUEST], "those of a VM that runs stay"
    bench.service.stop(VM, StopRequest())
    bench.service.put(bench.spec())
    assert ended(bench) == [GUEST, GUEST]
    bench.service.delete(VM)
    assert ended(bench) == [GUEST] * 3


def test_a_vm_without_an_address_from_nqr_ends_none(bench: Bench) -> None:
    bench.service.put(bench.spec(ip=None))
    bench.service.delete(VM)
    assert ended(bench) == []


@pytest.mark.parametrize("layers", [(), ("rules",), ("kernel",), ("rules", "kernel")], ids=lambda layers: " and ".join(layers))
def test_the_next_vm_at_an_address_hears_nothing_of_the_last_one(layers: tuple[str, ...]) -> None:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "iptables")):
        pytest.skip("needs root, iproute2, iptables and util-linux")
    found = run_script("ended_connections.py", *layers, namespaces=("net", "mount"), seconds=60)
    assert found["lacking"] == "", "this kernel can end connections"
    assert found["at first"] == ["asks", "answers", True, True, True, True]
    assert found["an error"] == "ConnectionRefusedError", "errors about answers reach the guest"
    assert found["led elsewhere"] is True
    assert found["others"] == [True, True, True] and found["c talks on"] == [True, True]
    forwarded, own = found["b hears"]
    assert forwarded == ("" if layers else "more"), "each layer is enough for a forward, and the test can see the hole"
    assert own == ("" if "kernel" in layers else "more")
    at_first = {"a": "" if layers else "more", "c": "more" if "kernel" in layers else ""}
    assert found["after the move"] == at_first, "a client that keeps sending reaches the VM that has the port"


_MANY = """
import socket, sys, threading
from nqrust.host.local import LocalHost
from nqrust.host.port import Connections
import subprocess
subprocess.run("ip link set lo up; ip addr add 10.0.0.20/32 dev lo; ip addr add 10.0.0.21/32 dev lo;"
    "iptables -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT", shell=True, check=True)
def count():
    return int(open("/proc/sys/net/netfilter/nf_conntrack_count").read())
host = LocalHost()
assert host.end_connections([]) == 0 and host.end_connections([Connections("10.0.0.20")]) == 0
for address in ("10.0.0.20", "10.0.0.21"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((address, 0))
        for port in range(2000, 3000):
            try: one.sendto(b"x", ("10.0.0.21", port))
            except OSError: one.sendto(b"x", ("10.0.0.21", port))
before = count()
done = host.end_connections([Connections("10.0.0.20")])
assert done == 1000 and before - count() >= 990, (done, before, count())
assert host.end_connections([Connections("10.0.0.20")]) == 0
found = []
def twice(): found.append(host.end_connections([Connections("10.0.0.21")]))
both = [threading.Thread(target=twice) for _ in range(2)]
for one in both: one.start()
for one in both: one.join()
assert len(found) == 2 and count() < 50, (found, count())
"""


def test_many_connections_end_and_those_of_another_address_stay(tmp_path: Path) -> None:
    """One that another program ends meanwhile is no error."""
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "iptables")):
        pytest.skip("needs root, iproute2, iptables and util-linux")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _MANY], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
