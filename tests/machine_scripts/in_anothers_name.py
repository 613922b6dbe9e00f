"""Runs in namespaces of its own: what a VM of a NAT network gains if it answers for the address of a neighbour.

Run inside: `unshare --net --mount python in_anothers_name.py`. Prints what was seen as JSON, without the filter and with it.

    fcbr0 (10.0.0.1)  the host
      hostile         10.0.0.30, which claims 10.0.0.31
      victim          10.0.0.31
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time

from packets import ethernet, heard, ipv4, sh  # beside this script
from tests.unit.agent.test_network import record

from nqrust.agent.network.filters import Filters
from nqrust.agent.network.port_guard import PortGuard
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import mac_address, tap_mac, tap_name
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network, vm_network_ipv6

_TUNSETIFF, _TAP, _SIOCSARP, _COMPLETE = 0x400454CA, 0x1002, 0x8955, 2
GATEWAY, MINE, THEIRS = "10.0.0.1", "10.0.0.30", "10.0.0.31"
MAC, VICTIM, OTHERS_MAC = mac_address("hostile"), mac_address("victim"), "02:00:00:00:00:99"
BROADCAST, SECRET = "ff:ff:ff:ff:ff:ff", b"for the victim"
ASKS, ANSWERS = 1, 2


def arp(code: int, mac: str, ip: str, target: str = GATEWAY, *, frame: str = "", hardware: int = 1) -> bytes:
    """What a machine with `mac` and `ip` says. `frame`: the MAC that sends it. `hardware`: Linux takes 6 for Ethernet, too."""
    own = bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(ip)
    body = struct.pack("!HHBBH", hardware, 0x0800, 6, 4, code) + own + bytes(6) + socket.inet_aton(target)
    return ethernet(frame or mac, BROADCAST, 0x0806, body)


CLAIMS = {
    "an answer": arp(ANSWERS, MAC, THEIRS),
    "a question": arp(ASKS, MAC, THEIRS),
    "to all": arp(ANSWERS, MAC, THEIRS, THEIRS),
    "of another kind": arp(ANSWERS, MAC, THEIRS, hardware=6),
    "another MAC inside": arp(ANSWERS, OTHERS_MAC, MINE, frame=MAC),
}


def tap(vm: str) -> int:
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH", tap_name(vm).encode(), _TAP))
    sh(f"ip link set dev {tap_name(vm)} address {tap_mac(vm)}")
    return opened


def soon(guest: int) -> list[bytes]:
    time.sleep(0.2)
    return heard(guest)


def is_answered(guest: int, frame: bytes) -> bool:
    heard(guest)
    os.write(guest, frame)
    return any(one[12:14] == b"\x08\x06" and one[20:22] == b"\0\2" for one in soon(guest))


def known(ip: str) -> str:
    """The MAC that the host has for an address, or none."""
    words = sh(f"ip -4 neigh show {ip} dev fcbr0").split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def enter_as_dnsmasq(ip: str, mac: str) -> None:
    """What dnsmasq does when it answers a client: the entry is no longer permanent. arp(7)"""
    request = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))
    request += struct.pack("=H6s8x", 1, bytes.fromhex(mac.replace(":", "")))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, _SIOCSARP, request + struct.pack("=i16s16s", _COMPLETE, b"", b"fcbr0"))


def taken(hostile: int, taps: Taps) -> list[str]:
    """The claims that the host believed."""
    found = []
    for what, frame in CLAIMS.items():
        for ip, mac in ((THEIRS, VICTIM), (MINE, MAC)):
            enter_as_dnsmasq(ip, mac)
        time.sleep(1.2)  # the host believes no other answer before; arp(7), locktime
        os.write(hostile, frame)
        time.sleep(0.1)
        if (known(THEIRS), known(MINE)) != (VICTIM, MAC):
            found.append(what)
    taps.pin()
    return found


def reads_of_one_that_is_off(hostile: int) -> bool:
    """Whether a guest that answers for a neighbour which is off gets what the host sends there."""
    sh(f"ip neigh del {THEIRS} dev fcbr0; ip link set {tap_name('victim')} nomaster")
    heard(hostile)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(SECRET, (THEIRS, 514))
        asked = any(frame[12:14] == b"\x08\x06" and frame[38:42] == socket.inet_aton(THEIRS) for frame in soon(hostile))
        assert asked, "the host asks all who has the address"
        os.write(hostile, CLAIMS["an answer"])
        found = any(SECRET in frame for frame in soon(hostile))
    sh(f"ip neigh flush dev fcbr0; ip link set {tap_name('victim')} master fcbr0")
    return found


def fills_the_table(hostile: int) -> int:
    """Addresses of the VM network that the host takes for neighbours after one guest asked as each of them."""
    for number in range(100, 200):
        os.write(hostile, arp(ASKS, MAC, f"10.0.0.{number}"))
    time.sleep(0.2)
    found = sum(line.startswith("10.0.0.1") for line in sh("ip -4 neigh show dev fcbr0").splitlines())
    sh("ip neigh flush dev fcbr0")
    return found


def reaches_dhcp(guest: int, mac: str) -> bool:
    """Whether the host takes a packet that a VM sends from no address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 67))
        server.settimeout(0.3)
        request = struct.pack("!HHHH", 68, 67, 44, 0) + bytes(28) + bytes.fromhex(mac.replace(":", "")) + bytes(2)
        os.write(guest, ethernet(mac, BROADCAST, 0x0800, ipv4("0.0.0.0", "255.255.255.255", 17, request)))
        try:
            return len(server.recv(100)) == 36
        except TimeoutError:
            return False


def passes(hostile: int) -> list[str]:
    """What gets through: a question for the gateway, a look whether an address is free, a request for one, and the same with another
    MAC."""
    seen = {
        "asks": is_answered(hostile, arp(ASKS, MAC, MINE)),
        "looks": is_answered(hostile, arp(ASKS, MAC, "0.0.0.0")),
        "requests": reaches_dhcp(hostile, MAC),
        "another MAC": reaches_dhcp(hostile, OTHERS_MAC),
    }
    return [what for what, through in seen.items() if through]


def main() -> dict[str, object]:
    sh("mount -t sysfs sysfs /sys; ip link set lo up; ip link add fcbr0 address 02:00:00:00:00:01 type bridge")
    sh("ip addr add 10.0.0.1/24 dev fcbr0; ip link set fcbr0 up")
    local = LocalHost()
    for spec in (vm_network("fcbr0", "10.0.0.0/24", GATEWAY), vm_network_ipv6("fcbr0")):
        IptablesRules(spec).apply(local)
    own = record("hostile", MINE, tap_name("hostile"))
    records = [own, record("victim", THEIRS, tap_name("victim"))]
    guard = PortGuard(local, lambda: records)
    both = Filters(Sources(local, "fcbr0", lambda: records), guard)
    unfiltered = Taps(local, "fcbr0", isolated=True, records=lambda: records)
    taps = Taps(local, "fcbr0", isolated=True, records=lambda: records, sources=both)
    hostile, victim = tap("hostile"), tap("victim")
    for vm in ("hostile", "victim"):
        unfiltered.take(tap_name(vm), vm, 0)
    sh(f"ip link set {tap_name('hostile')} type bridge_slave locked off")  # as before Linux 5.18
    time.sleep(0.5)
    said: dict[str, object] = {
        "without": [taken(hostile, unfiltered), fills_the_table(hostile), passes(hostile), reads_of_one_that_is_off(hostile)]
    }
    unfiltered.pin()
    sh(f"ip link set {tap_name('hostile')} type bridge_slave locked off")
    said["drawn"] = [both.sync(), both.sync(), both.lacking]
    said["with"] = [taken(hostile, taps), fills_the_table(hostile), passes(hostile), reads_of_one_that_is_off(hostile)]
    said["put back"] = [bool(taps.pin()), taps.pin()]
    own.ip = None
    guard.sync()
    said["without an address"] = passes(hostile)
    own.ip = MINE
    said["without a record"] = closed(hostile, records, both)
    os.close(hostile), os.close(victim)
    return said


def closed(hostile: int, records: list[object], both: Filters) -> list[object]:
    """What passes the port of a VM whose vm.json is damaged, where nftables(8) is missing, too; and again when it is whole."""
    own = records.pop(0)
    found: list[object] = [both.sync(), both.sync(), both.lacking]
    found.append(passes(hostile))
    sh("nft delete table bridge nqrust-microvm")
    found.append(reaches_dhcp(hostile, MAC))
    records.insert(0, own)
    both.sync()
    return [*found, both.lacking, passes(hostile)]


print(json.dumps(main()))
