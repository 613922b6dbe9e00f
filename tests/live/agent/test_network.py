"""With real programs: tAPs and addresses: what is told to the kernel and to dnsmasq."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.places import ROOT

from nqrust.host.local import LocalHost

# An agent's TAPs in namespaces of their own: what is in the kernel, and what a guest's lies change of it.
_PINNED = """
import fcntl, os, socket, struct, subprocess, time
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import tap_name
from nqrust.host.local import LocalHost
from tests.unit.agent.test_network import record

def sh(line):
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout

def permanent():
    return [ip for ip in ("10.0.0.20", "10.0.0.21", "10.0.0.22") if ip in sh("ip neigh show dev fcbr0 nud permanent")]

def claim(source, mac, ip):
    me, raw = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(ip)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + me + raw + me + raw
    os.write(guests[source], b"\\xff" * 6 + me + b"\\x08\\x06" + arp)

sh("mount -t sysfs sysfs /sys && ip link add fcbr0 type bridge && ip addr add 10.0.0.1/24 dev fcbr0 && ip link set fcbr0 up")
victim, liar, late = (record(vm, ip, tap_name(vm)) for vm, ip in (("v", "10.0.0.20"), ("l", "10.0.0.21"), ("n", "10.0.0.22")))
records, guests = [victim, liar], {}
taps, unpinned = (Taps(LocalHost(), "fcbr0", isolated=True, records=given) for given in (lambda: records, None))
for one in records:
    unpinned.ensure(one.tap, one.id, 1_900_000_000)
    guests[one.id] = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guests[one.id], 0x400454CA, struct.pack("16sH", one.tap.encode(), 0x1002))  # TUNSETIFF, as a VMM does
assert taps.pin() == sorted([victim.tap, liar.tap]), "running VMs whose TAPs are not pinned"
assert taps.pin() == []
claim("l", victim.mac, "10.0.0.20")
claim("l", liar.mac, "10.0.0.20")
time.sleep(0.2)
(entry,) = [line for line in sh("bridge fdb show br fcbr0").splitlines() if line.startswith(victim.mac)]
assert victim.tap in entry, entry
assert victim.mac in sh("ip neigh show 10.0.0.20 dev fcbr0")
records.append(late)
taps.ensure(late.tap, late.id, 1_900_000_001)
assert permanent() == ["10.0.0.20", "10.0.0.21", "10.0.0.22"]
taps.remove(victim.tap, owner=victim.id)
taps.pin()
assert permanent() == ["10.0.0.21", "10.0.0.22"]
sh("ip link delete fcbr0")
taps.remove(liar.tap)
taps.remove(late.tap)
assert taps.pin() == taps.all() == []
"""


def test_a_guest_that_claims_anothers_addresses_gets_nothing_of_it_and_nothing_stays() -> None:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "bridge")):
        pytest.skip("needs root, iproute2 and unshare")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    root = ROOT
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", _PINNED], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert done.returncode == 0, done.stderr
