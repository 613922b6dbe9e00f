"""Runs in namespaces of its own: a guest leaves checksums and the division of packets to its host, as virtio-net lets it.

Run inside: `unshare --net --mount python work_for_the_host.py lan|nat|plain`. Prints what was seen as JSON, or null if this kernel
divides no packets of UDP.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time
from types import SimpleNamespace
from typing import Any

from packets import checksum, checksum_v6, ethernet, ipv4, ipv6, sh  # beside this script
from tests.unit.agent.test_network import record

from nqrust.agent.network.filters import Filters
from nqrust.agent.network.lan import LanGuard
from nqrust.agent.network.port_guard import PortGuard
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import mac_address, tap_mac, tap_name
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network

_TUNSETIFF, _TAP, _WITH_HEADER = 0x400454CA, 0x1002, 0x4000
_RCVBUFFORCE, _SIOCETHTOOL, _SET_CHECKSUMS = 33, 0x8946, 0x17
NEEDS_CHECKSUM, DIVIDE_UDP = 1, 5  # linux/virtio_net.h
HOST, GATEWAY, MINE, OTHER = "10.0.0.1", "10.0.0.254", "10.0.0.20", "10.0.0.60"
LINK_LOCAL, ALL_V6 = "fe80::50", "ff02::1"
BROADCAST = "ff:ff:ff:ff:ff:ff"
TAP, MAC, NEIGHBOURS = tap_name("v"), mac_address("v"), mac_address("w")
IFB = f"ifb{TAP[3:]}"
local = LocalHost()


def total(data: bytes) -> int:
    return ~checksum(data) & 0xFFFF


def opened(header: int = _WITH_HEADER) -> int:
    guest = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), _TAP | header))
    sh(f"ip link set dev {TAP} address {tap_mac('v')}")
    return guest


def send(guest: int, frame: bytes, start: int = 0, at: int = 0, *, flags: int = 0, divide: int = 0, size: int = 0) -> None:
    """`start`, `at`: the host has to write the checksum of what begins at `start` there."""
    os.write(guest, struct.pack("<BBHHHH", flags, divide, start if divide else 0, size, start, at - start) + frame)


# --- a LAN: bytes that a filter has seen change


def forge(guest: int, frame: bytes, start: int, at: int, cover: bytes, pad: int) -> None:
    """Send `frame` with `cover` in the place of two bytes. The host's checksum is what was there. `pad`: bytes that may differ."""
    (wanted,) = struct.unpack_from("!H", frame, at)
    sent = bytearray(frame)
    sent[at : at + 2], sent[pad : pad + 2] = cover, bytes(2)
    sent[pad : pad + 2] = struct.pack("!H", (0xFFFF - wanted - total(bytes(sent[start:]))) % 0xFFFF)
    send(guest, bytes(sent), start, at, flags=NEEDS_CHECKSUM)


def hears(wire: socket.socket, kind: int, at: int, what: bytes) -> bool:
    """Whether a frame of the VM arrives that has `what` there."""
    deadline = time.monotonic() + 0.4
    while (left := deadline - time.monotonic()) > 0:
        if select.select([wire], [], [], left)[0]:
            frame = wire.recv(4096)
            if (
                frame[6:14] == bytes.fromhex(MAC.replace(":", "")) + struct.pack("!H", kind)
                and frame[at : at + len(what)] == what
            ):
                return True
    return False


def in_the_hosts_name(guest: int, wire: socket.socket) -> bool:
    own = bytes.fromhex(MAC.replace(":", ""))
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + socket.inet_aton(HOST) + own + socket.inet_aton(OTHER)
    forge(guest, ethernet(MAC, BROADCAST, 0x0806, body), 20, 30, b"\xfe\xfe", 50)
    return hears(wire, 0x0806, 28, socket.inet_aton(HOST))


def advertised(guest: int, wire: socket.socket) -> bool:
    """A router advertisement; RFC 4861, 4.2."""
    frame = ethernet(MAC, "33:33:00:00:00:01", 0x86DD, ipv6(LINK_LOCAL, ALL_V6, 58, bytes((134, 0)) + bytes(14)))
    forge(guest, frame, 54, 54, b"\x80\x00", 56)
    return hears(wire, 0x86DD, 54, b"\x86\x00")


def honest(guest: int, wire: socket.socket) -> bool:
    """Whether the host finishes what a guest's system leaves to it."""
    body = struct.pack("!BBH", 135, 0, 0) + bytes(4) + socket.inet_pton(socket.AF_INET6, "fe80::60")
    right = struct.pack("!H", checksum_v6(LINK_LOCAL, ALL_V6, 58, body))
    pseudo = ipv6(LINK_LOCAL, ALL_V6, 58, b"")[8:] + struct.pack("!II", len(body), 58)
    left = body[:2] + struct.pack("!H", total(pseudo)) + body[4:]
    send(guest, ethernet(MAC, "33:33:00:00:00:01", 0x86DD, ipv6(LINK_LOCAL, ALL_V6, 58, left)), 54, 56, flags=NEEDS_CHECKSUM)
    return hears(wire, 0x86DD, 54, body[:2] + right)


def can_do_checksums(link: str) -> None:
    wanted = ctypes.create_string_buffer(struct.pack("II", _SET_CHECKSUMS, 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door, _SIOCETHTOOL, struct.pack("16sP8x", link.encode(), ctypes.addressof(wanted)))


def lan() -> dict[str, object]:
    sh("ip link add lan0 type veth peer name peer0; ip link set lan0 master br0; for l in lan0 peer0; do ip link set $l up; done")
    local.leave_no_work("lan0")  # as a card that leaves such checksums to the kernel
    records = [record("v", None, TAP)]
    taps = Taps(local, "br0", isolated=False, records=lambda: records, sources=LanGuard(local, "br0", lambda: records), lan=True)
    guest = opened()
    taps.admit()
    taps.take(TAP, "v", 0)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
    wire.bind(("peer0", 0))
    for _ in range(30):  # until the ports forward
        if honest(guest, wire):
            break
    said: dict[str, object] = {"honest": honest(guest, wire), "lacking": taps.detours.lacking, "nothing": taps.pin()}

    def forged() -> list[bool]:
        return [in_the_hosts_name(guest, wire), advertised(guest, wire)]

    said["as it is"] = forged()
    damages = {
        "straight on": lambda: sh(f"tc qdisc delete dev {TAP} ingress"),
        "no device": lambda: sh(f"ip link delete {IFB}"),
        "down": lambda: sh(f"ip link set dev {IFB} down"),
        "left to the device": lambda: can_do_checksums(IFB),
    }
    for what, damage in damages.items():
        damage()
        found: list[Any] = [forged(), taps.pin().get(TAP), taps.pin(), forged(), honest(guest, wire)]
        said[what] = found
    return said | gone(taps)


# --- a network of nqr's own: many packets count as one


def udp(sport: int, dport: int, data: bytes, *, left: bool) -> bytes:
    pseudo = socket.inet_aton(MINE) + socket.inet_aton(HOST) + struct.pack("!HH", 17, 8 + len(data))
    return ipv4(MINE, HOST, 17, struct.pack("!HHHH", sport, dport, 8 + len(data), total(pseudo) if left else 0) + data)


def listener(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
    one.bind(("0.0.0.0", port))
    return one


def arrived(one: socket.socket) -> list[bytes]:
    time.sleep(0.5)
    found = []
    while select.select([one], [], [], 0)[0]:
        found.append(one.recv(4096))
    return found


def bootp(mac: str, kind: int) -> bytes:
    """RFC 2131, 2, with the message type of RFC 2132, 9.6."""
    head = bytes((1, 1, 6, 0)) + bytes(24) + bytes.fromhex(mac.replace(":", "")) + bytes(202)
    return (head + bytes.fromhex("63825363") + bytes((53, 1, kind, 255))).ljust(300, b"\0")


def nat() -> dict[str, object] | None:
    for spec in (vm_network("br0", "10.0.0.0/24", HOST, dns=True),):
        IptablesRules(spec).apply(local)
    records: Any = [SimpleNamespace(**{**record("v", MINE, TAP).model_dump(), "asked": "run"})]
    sources = Filters(Sources(local, "br0", lambda: records), PortGuard(local, lambda: records))
    taps = Taps(local, "br0", isolated=True, records=lambda: records, sources=sources)
    guest = opened()
    taps.admit()
    taps.take(TAP, "v", 0)
    mac = sh("cat /sys/class/net/br0/address").strip()
    dhcp, dns = listener(67), listener(53)

    def divided(sport: int, dport: int, data: bytes, size: int) -> None:
        frame = ethernet(MAC, mac, 0x0800, udp(sport, dport, data, left=True))
        send(guest, frame, 34, 40, flags=NEEDS_CHECKSUM, divide=DIVIDE_UDP, size=size)

    def asked() -> list[list[object]]:
        divided(68, 67, bootp(MAC, 1) + bootp(NEIGHBOURS, 4), 300)
        return [[one[28:34].hex(":"), one[242]] for one in arrived(dhcp)]

    def queries() -> int:
        for _ in range(40):
            divided(5353, 53, bytes(40) * 128, 40)
        return len(arrived(dns))

    for _ in range(30):  # until the port forwards
        send(guest, ethernet(MAC, mac, 0x0800, udp(68, 67, bootp(MAC, 1), left=False)))
        if arrived(dhcp):
            break
    try:
        said: dict[str, object] = {"as it is": asked(), "queries": queries()}
    except OSError:
        return None
    sh(f"tc qdisc delete dev {TAP} ingress")
    time.sleep(4)  # the limit counts from zero again
    said |= {"straight on": asked(), "queries then": queries(), "put back": taps.pin().get(TAP), "then": asked()}
    return said | gone(taps)


# --- a VMM that opens its TAP without a header


def plain() -> dict[str, object]:
    records = [record("v", None, TAP)]
    taps = Taps(local, "br0", isolated=True, records=lambda: records)
    guest = opened(header=0)
    taps.take(TAP, "v", 0)
    said: dict[str, object] = {"led round": IFB in os.listdir("/sys/class/net"), "wrong": taps.pin()}
    again = os.open("/dev/net/tun", os.O_RDWR)
    refused = 0
    for one in (guest, again):
        try:
            fcntl.ioctl(one, _TUNSETIFF, struct.pack("16sH22x", TAP.encode(), _TAP | _WITH_HEADER))
        except OSError:
            refused += 1
    said |= {"refused": refused, "flags": int(sh(f"cat /sys/class/net/{TAP}/tun_flags"), 16) & _WITH_HEADER}
    return said | gone(taps)


def gone(taps: Taps) -> dict[str, object]:
    taps.remove(TAP, owner="v")
    return {"left": sorted({TAP, IFB} & set(os.listdir("/sys/class/net")))}


sh(
    f"mount -t sysfs sysfs /sys; ip link set lo up; ip link add br0 type bridge; ip addr add {HOST}/24 dev br0; ip link set br0 up"
)
sh(f"ip route add default via {GATEWAY}; ip -6 addr add fe80::1/64 dev br0 nodad || true")
print(json.dumps({"lan": lan, "nat": nat, "plain": plain}[sys.argv[1]]()))
