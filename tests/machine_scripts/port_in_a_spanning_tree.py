"""Runs in namespaces of its own: a guest on a bridge with a spanning tree (IEEE 802.1D), which claims to be next to the root.

Run inside: `unshare --net --mount python port_in_a_spanning_tree.py`. Prints what was seen as JSON.

    switch (netns)   the root of the tree, 192.0.2.254
      lan0           the host's card, a port of br0 with 192.0.2.1
    host             br0
      tap            the guest's port
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

from tests.unit.agent.test_network import record

from nqrust.agent.network.lan import LanGuard
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import mac_address, tap_mac, tap_name
from nqrust.host.local import LocalHost

_TUNSETIFF, _TAP = 0x400454CA, 0x1002
_FORWARDING, _BLOCKING = "3", "4"
TAP, SECONDS = tap_name("v"), 8.0
"""The switch says all 2 seconds that it is the root."""
_CONNECT = "import socket; socket.create_connection(('192.0.2.1', 8080), timeout=1.5)"


def sh(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout.strip()


def port(name: str, attribute: str) -> str:
    return sh(f"cat /sys/class/net/{name}/brport/{attribute}")


def reached() -> bool:
    """Whether a machine behind the switch reaches the host."""
    return subprocess.run(["ip", "netns", "exec", "switch", sys.executable, "-c", _CONNECT], capture_output=True).returncode == 0


def until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
    return holds()


def claim() -> bytes:
    """A configuration message of the guest: it is the root itself, as far as the host's bridge can tell. 802.1D, 9.3.1"""
    root = bytes.fromhex(sh("cat /sys/class/net/br0/bridge/root_id").replace(".", ""))
    times = [0, *(seconds * 256 for seconds in (20, 2, 2))]
    body = struct.pack("!HBBB8sI8sH4H", 0, 0, 0, 0, root, 0, bytes(7) + b"\x01", 0x8001, *times)
    ends = bytes.fromhex("0180c2000000") + bytes.fromhex(mac_address("v").replace(":", ""))
    return (ends + struct.pack("!H", 3 + len(body)) + b"\x42\x42\x03" + body).ljust(60, b"\0")


def claims(guest: int) -> bool:
    """Claim that without a pause. Return whether the host's card was closed meanwhile."""
    frame, deadline, closed = claim(), time.monotonic() + SECONDS, False
    while time.monotonic() < deadline and not closed:
        os.write(guest, frame)
        time.sleep(0.5)
        closed = port("lan0", "state") == _BLOCKING and not reached()
    return closed


def main() -> dict[str, object]:
    sh("mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir /run/netns; ip netns add switch; ip link set lo up")
    sh("ip link add lan0 type veth peer name port1 netns switch; ip link add br0 type bridge stp_state 1 forward_delay 200")
    sh(
        "ip -n switch link add sw0 type bridge stp_state 1 priority 4096 forward_delay 200; ip -n switch link set port1 master sw0"
    )
    sh("for l in lo port1 sw0; do ip -n switch link set $l up; done; ip -n switch addr add 192.0.2.254/24 dev sw0")
    sh("ip link set lan0 master br0; for l in lan0 br0; do ip link set $l up; done; ip addr add 192.0.2.1/24 dev br0")
    listener = socket.create_server(("192.0.2.1", 8080))
    guest = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH", TAP.encode(), _TAP))
    sh(f"ip link set dev {TAP} address {tap_mac('v')}")
    local, records = LocalHost(), [record("v", None, TAP)]
    guard = LanGuard(local, "br0", lambda: records)
    taps = Taps(local, "br0", isolated=False, records=lambda: records, sources=guard, lan=True)
    taps.admit()
    taps.take(TAP, "v", 0)
    # A link of 1 Gbit/s has a cost of 4, an older kernel's TAP 100. A guest of a newer one is nearer to the root than the card.
    sh(f"ip link set dev lan0 type bridge_slave cost 4; ip link set dev {TAP} type bridge_slave cost 2")
    first = until(lambda: port("lan0", "state") == port(TAP, "state") == _FORWARDING and reached(), 20)
    root = sh("cat /sys/class/net/lan0/brport/designated_root")
    said: dict[str, object] = {
        "at first": first,
        "closed": claims(guest),
        "the guest's port": port(TAP, "state"),
        "the switch": sh("cat /sys/class/net/lan0/brport/designated_root") == root and port("lan0", "state") == _FORWARDING,
    }
    sh(f"ip link set dev {TAP} type bridge_slave group_fwd_mask 0")
    said["with the guard alone"] = [claims(guest), port(TAP, "state")]
    sh(f"ip link set dev {TAP} type bridge_slave guard off")
    said["put back"] = [list(taps.pin().values()), taps.pin()]
    sh(
        f"ip link set dev {TAP} type bridge_slave guard off group_fwd_mask 0; ip link set dev {TAP} down; ip link set dev {TAP} up"
    )
    until(lambda: port(TAP, "state") == _FORWARDING, 20)
    said["closed without both"] = claims(guest)
    listener.close()
    os.close(guest)
    return said


print(json.dumps(main()))
