"""Runs beside guests_behind_rules.py: what guests leave in the host's room for fragments, and who still gets through.

tap0 to tap5 are of guests that send first fragments alone. guest1 and a machine beyond send whole packets in fragments.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from nqrust.agent.network.filters import Filters
from nqrust.agent.network.port_guard import PortGuard
from nqrust.agent.network.sources import Sources
from nqrust.host.local import LocalHost

GUESTS, SECONDS, LONG = 6, 4.0, 60_000
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_TAKES = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind((sys.argv[1], 999))
    one.settimeout(4)
    print("ready", flush=True)
    try: print(len(one.recv(65535)))
    except OSError: print(0)
"""
_SENDS = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind((sys.argv[1], 0))
    one.sendto(bytes(int(sys.argv[3])), (sys.argv[2], 999))
"""


def tap(number: int) -> int:
    """Open a TAP, as a VMM does, as a port of the bridge."""
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH22x", f"tap{number}".encode(), _TAP_WITHOUT_HEADER))
    return opened


def fragment(number: int, mac: bytes, *, guest: int = 0, long: int = 0, tagged: bool = False) -> bytes:
    """Return the first fragment of a packet whose rest does not come. `long`: bytes of its frame, more than the header says."""
    source, target = bytes([10, 0, 0, 100 + guest]), bytes([10, 0, 0, 1])
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1492, number & 0xFFFF, 0x2000, 64, 17, 0, source, target)
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    tag = b"\x81\x00\x00\x00" if tagged else b""
    return mac + bytes([2, 0, 0, 0, 0, guest]) + tag + b"\x08\x00" + head + bytes((long or 1492) - 20)


def fragment_of_ipv6(number: int, mac: bytes, guest: int = 0) -> bytes:
    """The same of IPv6, with a header for authentication before that of fragments; RFC 4302."""
    ends = bytes.fromhex(f"fe80{'0' * 27}{guest + 1:x}") + bytes.fromhex(f"fe80{'0' * 27}9")
    body = struct.pack("!BBHII", 44, 1, 0, 1, 1) + struct.pack("!BBHI", 17, 0, 1, number) + bytes(1000)
    return mac + bytes([2, 0, 0, 0, 0, guest]) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 51, 64) + ends + body


def kept(sh: Callable[..., str]) -> tuple[int, int]:
    """Fragments that the host keeps, and bytes of them."""
    words = sh("grep FRAG: /proc/net/sockstat").split()
    return int(words[2]), int(words[4])


def seen(sh: Callable[..., str], inside: Callable[..., str], web: str, script: str) -> dict[str, Any]:
    taps = [tap(number) for number in range(GUESTS)]
    for number in range(GUESTS):
        sh(f"ip link set tap{number} master fcbr0 up; ip link set tap{number} type bridge_slave isolated on")
    mac = bytes.fromhex(sh("cat /sys/class/net/fcbr0/address").strip().replace(":", ""))

    def send(guest: int, frame: bytes) -> None:
        os.write(taps[guest], frame)

    def passes(namespace: str, source: str, to: str, target: str, length: int) -> bool:
        """Whether a packet of `length` bytes gets there whole."""
        argv = ["ip", "netns", "exec", to, sys.executable, "-c", _TAKES, target]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as takes:
            assert takes.stdout is not None and takes.stdout.readline() == "ready\n"
            inside(namespace, _SENDS, source, target, length)
            return takes.stdout.readline().strip() == str(length)

    def through() -> list[bool]:
        """Whole packets: of a guest to a machine beyond, and its answer."""
        return [passes("guest1", "10.0.0.21", "web", web, 60_000), passes("web", web, "guest1", "10.0.0.21", 8000)]

    def forget() -> None:
        """Fill the room no longer: the host drops what it kept when its time is over."""
        while kept(sh)[0]:
            time.sleep(0.2)

    sh("iptables -I NQR-FORWARD 1 -s 198.51.100.1 -d 10.0.0.21 -j ACCEPT")  # instead of an answer
    sh("echo 8 >/proc/sys/net/ipv4/ipfrag_time")
    for number in range(100):
        send(0, fragment(number, mac, long=LONG))
    said: dict[str, Any] = {"without the rules": through()}
    forget()
    sh("echo 30 >/proc/sys/net/ipv4/ipfrag_time")
    records: Any = [
        SimpleNamespace(id=f"t{number}", tap=f"tap{number}", ip=None, mac=f"02:00:00:00:00:0{number}", asked="run")
        for number in range(GUESTS)
    ]
    own = sh("ip netns exec guest1 cat /sys/class/net/eth0/address").strip()
    records.append(SimpleNamespace(id="guest1", tap="port1", ip="10.0.0.21", mac=own, asked="run"))
    few = Filters(PortGuard(LocalHost(), lambda: records), Sources(LocalHost(), "fcbr0", list))
    said |= {"drawn": [few.sync(), few.sync()], "lacking": few.lacking}
    sh("nft 'add table bridge after; add chain bridge after c { type filter hook prerouting priority -200; }'")
    sh("nft add rule bridge after c ip6 nexthdr 51 counter")  # RFC 4302
    drawn = time.monotonic()
    for number in range(200):
        send(0, fragment(number, mac, long=LONG))
        send(0, fragment(number, mac, tagged=True))
        send(0, fragment_of_ipv6(number, mac))
    said["of long and tagged ones"], said["then"] = kept(sh)[0], through()
    said["of IPv6"] = int(sh("nft list chain bridge after c").partition("packets ")[2].split()[0])
    began, number = time.monotonic(), 1000
    while time.monotonic() < began + SECONDS:
        send(0, fragment(number, mac))
        number += 1
        time.sleep(0.001)
    said["of one"], said["seconds of one"], said["beside one"] = kept(sh)[0], time.monotonic() - began, through()
    while time.monotonic() < began + 2 * SECONDS:
        for guest in range(GUESTS):
            send(guest, fragment(number, mac, guest=guest))
        number += 1
        time.sleep(0.001)
    said["of all"], said["memory"] = kept(sh)
    said["seconds"] = time.monotonic() - drawn
    said["from beyond beside all"] = through()[1]
    sh("nft flush ruleset")
    said["put back"] = [few.sync(), few.sync()]
    records.clear()
    few.sync()
    said["without VMs"] = "chain" in sh("nft list table bridge nqrust-microvm")
    sh(f"{script} down")
    return said | {"left": "nqrust-microvm" in sh("nft list tables")}
