"""Runs in namespaces of its own: an agent's TAPs, and what a guest's lies and a VMM's calls change of them.

Run inside: `unshare --net --mount python taps_on_a_bridge.py`. Prints `null`; each step is asserted here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time

from tests.unit.agent.test_network import record

from nqrust.agent.network.taps import Taps
from nqrust.agent.store import VmRecord
from nqrust.contract.names import tap_mac, tap_name
from nqrust.host.local import LocalHost

_NEWNET = 0x40000000
_TUNSETIFF, _TAP, _SIOCSIFHWADDR = 0x400454CA, 0x5002, 0x8924  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
_TUNSETOFFLOAD, _TUNSETVNETHDRSZ, _HEADER, _OFFLOADS = 0x400454D0, 0x400454D8, 12, 0x1F
ADDRESSES = {"v": "10.0.0.20", "l": "10.0.0.21", "n": "10.0.0.22"}
libc = ctypes.CDLL(None)
guests: dict[str, int] = {}


def sh(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


def read(link: str, what: str) -> str:
    with open(f"/sys/class/net/{link}/{what}") as file:
        return file.read().strip()


def permanent() -> list[str]:
    return [ip for ip in ADDRESSES.values() if ip in sh("ip neigh show dev fcbr0 nud permanent")]


def claim(source: str, mac: str, ip: str) -> None:
    me, raw = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(ip)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + me + raw + me + raw
    os.write(guests[source], bytes(_HEADER) + b"\xff" * 6 + me + b"\x08\x06" + arp)


def start(taps: Taps, one: VmRecord) -> None:
    """As a launcher and a VMM do: the TAP is made and opened in another network namespace than the agent's."""
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    taps.make_way(one.tap, one.id)
    assert libc.unshare(_NEWNET) == 0
    sh(f"ip tuntap add dev {one.tap} mode tap user 1900000000")
    guests[one.id] = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guests[one.id], _TUNSETIFF, struct.pack("16sH", one.tap.encode(), _TAP))
    holder = subprocess.Popen(["sleep", "60"])
    assert libc.setns(host, _NEWNET) == 0
    os.close(host)
    assert taps.get(one.tap) is None
    taps.take(one.tap, one.id, holder.pid)
    # What a VMM asks for when the guest's driver begins, after the move.
    fcntl.ioctl(guests[one.id], _TUNSETVNETHDRSZ, struct.pack("i", _HEADER))
    fcntl.ioctl(guests[one.id], _TUNSETOFFLOAD, _OFFLOADS)
    holder.kill()
    holder.wait()


def set_mac(source: str, mac: str) -> None:
    """On an open TAP nobody asks for a capability."""
    fcntl.ioctl(guests[source], _SIOCSIFHWADDR, struct.pack("16sH6s", b"", 1, bytes.fromhex(mac.replace(":", ""))))


def entries(mac: str) -> list[str]:
    return [line for line in sh("bridge fdb show br fcbr0").splitlines() if line.startswith(mac)]


def take_over(taps: Taps, victim: VmRecord, liar: VmRecord) -> None:
    """The VMM of one takes the MAC of the other's guest, and then the lowest of all."""
    bridge_had = read("fcbr0", "address")
    set_mac("l", victim.mac)
    assert not any("static" in line for line in entries(victim.mac)), "its entry is gone"
    changed = taps.pin()
    assert changed[liar.tap][0] == f"its MAC was {victim.mac}"
    assert changed[victim.tap] == ("the bridge did not know its VM's MAC",)
    assert [victim.tap in line and "static" in line for line in entries(victim.mac)] == [True]
    set_mac("l", "02:00:00:00:00:01")
    assert read("fcbr0", "address") == bridge_had
    assert taps.pin() == {liar.tap: ("its MAC was 02:00:00:00:00:01",)}
    assert read(liar.tap, "address") == tap_mac("l")


def main() -> None:
    sh("mount -t sysfs sysfs /sys; ip link add fcbr0 type bridge; ip addr add 10.0.0.1/24 dev fcbr0; ip link set fcbr0 up")
    victim, liar, late = (record(vm, ip, tap_name(vm)) for vm, ip in ADDRESSES.items())
    records = [victim, liar]
    taps, unpinned = (Taps(LocalHost(), "fcbr0", isolated=True, records=given) for given in (lambda: records, None))
    for one in records:
        start(unpinned, one)
    assert set(taps.pin()) == {victim.tap, liar.tap}, "running VMs whose TAPs are not pinned"
    assert taps.pin() == {}

    take_over(taps, victim, liar)
    sh(f"ip link set dev {liar.tap} type bridge_slave learning on isolated off flood on")
    assert len(taps.pin()[liar.tap]) == 3 and taps.pin() == {}

    claim("l", victim.mac, "10.0.0.20")
    claim("l", liar.mac, "10.0.0.20")
    time.sleep(0.2)
    (found,) = entries(victim.mac)
    assert victim.tap in found, found
    assert victim.mac in sh("ip neigh show 10.0.0.20 dev fcbr0")

    records.append(late)
    start(taps, late)
    assert permanent() == ["10.0.0.20", "10.0.0.21", "10.0.0.22"]
    taps.remove(victim.tap, owner=victim.id)
    taps.pin()
    assert permanent() == ["10.0.0.21", "10.0.0.22"]
    sh("ip link delete fcbr0")
    taps.remove(liar.tap)
    taps.remove(late.tap)
    assert (taps.pin(), taps.all()) == ({}, [])


main()
print("null")
