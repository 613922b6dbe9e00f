"""Runs in namespaces of its own: a VM's TAP, whose frames the kernel may hand to the host as if there were no bridge.

Run inside: `unshare --net --mount python past_the_bridge.py nat|stp|gone`. Prints what reached the host as JSON, for each of these:

    "as it is"       the TAP as the agent makes it
    "mask"           the bridge forwards the frames, and nothing else is in their way
    "refusal"        the host refuses packets of the TAP, and nothing else
    "rules"          the agent's chain drops packets of the TAP, and nothing else
    "nothing"        so that the probes are known to work

    up0 (192.0.2.1)   a card of the host, and another address than that of the VMs' network
    fcbr0 (10.0.0.1)  the bridge; `stp`: with a spanning tree, `gone`: removed while the VM runs
      tap             the guest's port
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable

from packets import checksum_v6, ethernet, heard, ipv4, ipv6, sh, syn_v6, udp
from tests.unit.agent.test_network import record

from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import mac_address, tap_mac, tap_name
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network, vm_network_ipv6

_TUNSETIFF, _TAP = 0x400454CA, 0x1002
TAP, MAC = tap_name("v"), mac_address("v")
GUEST, NEIGHBOUR = "fe80::666", "10.0.0.99"
BROADCAST, LLDP = "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:0e"
GROUPS = tuple(f"01:80:c2:00:00:{number:02x}" for number in range(16))
SWITCHES = {
    f"/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6": ("1", "0"),
    f"/proc/sys/net/ipv4/conf/{TAP}/rp_filter": ("1", "0"),
}
probes: dict[str, Callable[[int, str], bool]] = {}


def probe(function: Callable[[int, str], bool]) -> Callable[[int, str], bool]:
    probes[function.__name__.replace("_", " ")] = function
    return function


@probe
def udp_to_the_host(guest: int, target: str) -> bool:
    """To the address of another card, on a port that is open to all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 5353))
        server.settimeout(0.05)
        os.write(guest, ethernet(MAC, target, 0x0800, ipv4("10.0.0.20", "192.0.2.1", 17, udp(1000, 5353))))
        try:
            return server.recv(100) == b"said"
        except TimeoutError:
            return False


@probe
def a_broadcast(guest: int, target: str) -> bool:
    """From no address, as a DHCP client sends it: no check of sources refuses that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 5353))
        server.settimeout(0.05)
        os.write(guest, ethernet(MAC, target, 0x0800, ipv4("0.0.0.0", "255.255.255.255", 17, udp(1000, 5353))))
        try:
            return server.recv(100) == b"said"
        except TimeoutError:
            return False


@probe
def a_router(guest: int, target: str) -> bool:
    """A router advertisement: the guest is the host's way to all of IPv6. RFC 4861, 4.2."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    body = body[:2] + struct.pack("!H", checksum_v6(GUEST, "ff02::1", 58, body)) + body[4:]
    os.write(guest, ethernet(MAC, target, 0x86DD, ipv6(GUEST, "ff02::1", 58, body)))
    time.sleep(0.05)
    found = GUEST in sh("ip -6 route show default")
    sh(f"ip -6 route flush default dev {TAP} 2>/dev/null || :")
    return found


@probe
def a_neighbour(guest: int, target: str) -> bool:
    """An ARP request, after which the host remembers who asked."""
    own, raw = bytes.fromhex(MAC.replace(":", "")), socket.inet_aton(NEIGHBOUR)
    asks = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + raw + bytes(6) + socket.inet_aton("192.0.2.1")
    os.write(guest, ethernet(MAC, target, 0x0806, asks))
    time.sleep(0.05)
    found = NEIGHBOUR in sh(f"ip -4 neigh show dev {TAP}")
    sh(f"ip -4 neigh flush dev {TAP}")
    return found


@probe
def tcp_over_ipv6(guest: int, target: str) -> bool:
    """To the TAP's own address, where the host listens on all of its addresses."""
    words = sh(f"ip -6 -o addr show dev {TAP} scope link").split()
    if "inet6" not in words:
        return False
    own = words[words.index("inet6") + 1].partition("/")[0]
    sh(f"ip -6 neigh replace {GUEST} lladdr {MAC} dev {TAP}")
    with socket.create_server(("::", 22), family=socket.AF_INET6):
        heard(guest)
        os.write(guest, ethernet(MAC, target, 0x86DD, ipv6(GUEST, own, 6, syn_v6(GUEST, own, 22))))
        time.sleep(0.05)
        return any(frame[12:14] == b"\x86\xdd" and frame[20] == 6 and frame[67] == 0x12 for frame in heard(guest))


def refuse(on: bool) -> None:
    for path, values in SWITCHES.items():
        sh(f"echo {values[not on]} >{path}")
    sh(f"ip link set dev {TAP} arp {'off' if on else 'on'}")
    time.sleep(0 if on else 2.5)  # an address of IPv6 is tried out first


def forward(on: bool) -> None:
    sh(f"echo {'0xfffd' if on else '0'} >/sys/class/net/{TAP}/brport/group_fwd_mask")


def draw(taps: Taps, on: bool) -> None:
    taps.admit() if on else sh("iptables -w -t raw -F NQR-SOURCE")


def seen(guest: int, *, bridge: bool) -> dict[str, object]:
    """Probe -> the last two digits of each MAC by which it reached the host."""
    targets = GROUPS if bridge else (tap_mac("v"), BROADCAST, LLDP)
    asked = {what: reaches for what, reaches in probes.items() if reaches is not tcp_over_ipv6 or not bridge}
    found = {what: [target[-2:] for target in targets if reaches(guest, target)] for what, reaches in asked.items()}
    return {what: macs for what, macs in found.items() if macs}


def main(kind: str) -> dict[str, object]:
    sh("mount -t sysfs sysfs /sys; ip link set lo up; ip link add fcbr0 type bridge; ip addr add 10.0.0.1/24 dev fcbr0")
    if kind == "stp":
        sh("ip link set fcbr0 type bridge stp_state 1 forward_delay 200")
    sh("ip link set fcbr0 up; ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0")
    sh("for l in up0 up1; do ip link set $l up; done; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter")
    local, records = LocalHost(), [record("v", "10.0.0.20", TAP)]
    for spec in (vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1"), vm_network_ipv6("fcbr0")):
        IptablesRules(spec).apply(local)
    taps = Taps(local, "fcbr0", isolated=True, records=lambda: records, sources=Sources(local, "fcbr0", lambda: records))
    guest = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH", TAP.encode(), _TAP))
    sh(f"ip link set dev {TAP} address {tap_mac('v')}")
    taps.admit()
    taps.take(TAP, "v", 0)
    time.sleep(4.5 if kind == "stp" else 0.2)
    bridge = kind != "gone"
    if not bridge:
        sh("ip link delete fcbr0")
    said: dict[str, object] = {"as it is": seen(guest, bridge=bridge)}
    draw(taps, False)
    if bridge:
        forward(False)
    said["refusal"] = seen(guest, bridge=bridge)
    refuse(False)
    said["nothing"] = seen(guest, bridge=bridge)
    draw(taps, True)
    said["rules"] = seen(guest, bridge=bridge)
    if bridge:
        draw(taps, False)
        forward(True)
        said["mask"] = seen(guest, bridge=bridge)
        forward(False)
        said["put back"] = [list(taps.pin().values()), taps.pin(), seen(guest, bridge=bridge)]
    os.close(guest)
    return said


print(json.dumps(main(sys.argv[1])))
