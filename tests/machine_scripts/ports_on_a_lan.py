"""Runs in namespaces of its own: VMs on a LAN's bridge, what they may send to the LAN and to the host, and what is left alone.

Run inside: `unshare --net --mount python ports_on_a_lan.py`. Prints `null`; each step is asserted here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import time

from packets import checksum, ethernet, heard, ipv4, ipv6, sh, syn_v6, udp  # beside this script
from tests.unit.agent.test_network import record

from nqrust.agent.network.lan import LanGuard
from nqrust.agent.network.taps import Taps
from nqrust.contract.names import mac_address, tap_name
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.firewall.lan import lan_guests, lan_guests_ipv6
from nqrust.installer.verbs.firewall.rules import IptablesRules

_NEWNET, _RCVBUFFORCE = 0x40000000, 33
_TUNSETIFF, _TAP, _TUNSETVNETHDRSZ, _HEADER = 0x400454CA, 0x5002, 0x400454D8, 12
HOST, GATEWAY, MINE, OTHER = "192.0.2.1", "192.0.2.254", "192.0.2.50", "192.0.2.60"
LINK_LOCAL, MY_LINK_LOCAL = "fe80::1", "fe80::50"
BROADCAST, PEER_MAC = "ff:ff:ff:ff:ff:ff", "02:00:00:00:0e:01"
libc = ctypes.CDLL(None)
MAC, OTHERS_MAC = mac_address("v"), mac_address("w")


# --- frames


def arp(source: str, of: str, ip: str, code: int = 1) -> bytes:
    own = bytes.fromhex(of.replace(":", "")) + socket.inet_aton(ip)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, code) + own + bytes(6) + socket.inet_aton(OTHER)
    return ethernet(source, BROADCAST, 0x0806, body)


def syn(source: str, target: str, port: int, own: int = 0, flags: int = 2) -> bytes:
    """To the host's `port`, from a port that names it, or from the port `own`."""
    body = struct.pack("!HHIIBBHHH", own or 40000 + port % 1000, port, 1, 0, 0x50, flags, 8192, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(body))
    return ipv4(source, target, 6, body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:])


def echo(source: str, target: str, number: int = 7) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, number, 7) + b"ping"
    return ipv4(source, target, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:])


def icmpv6(kind: int, about: str = "") -> bytes:
    """Of router advertisements alone, the rest of the body does not matter here."""
    body = struct.pack("!BBHI", kind, 0, 0, 0) + (socket.inet_pton(socket.AF_INET6, about) if about else bytes(8))
    return ipv6(MY_LINK_LOCAL, "ff02::1", 58, body)


def from_v4(packet: bytes, source: str = MAC, target: str = BROADCAST) -> bytes:
    return ethernet(source, target, 0x0800, packet)


def from_v6(packet: bytes) -> bytes:
    return ethernet(MAC, "33:33:00:00:00:01", 0x86DD, packet)


def asks_dhcp(mac: str, *, part: int = 0) -> bytes:
    """As the MAC inside the request; RFC 2131, 2. `part`: bytes of the first fragment, which is all that is sent."""
    body = bytes((1, 1, 6, 0)) + bytes(24) + bytes.fromhex(mac.replace(":", "")) + bytes(206) + bytes.fromhex("63825363350101ff")
    whole = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
    if not part:
        return ipv4("0.0.0.0", "255.255.255.255", 17, whole)
    first = bytearray(ipv4("0.0.0.0", "255.255.255.255", 17, whole[:part]))
    first[6] = 0x20  # more fragments follow
    first[10:12] = bytes(2)
    first[10:12] = struct.pack("!H", checksum(bytes(first[:20])))
    return bytes(first)


def asks_for_members(part: int = 0) -> bytes:
    """Of all groups; RFC 2236, 2. A bridge looks at it, and passes on only a right one. `part`: as the header calls a fragment."""
    body = struct.pack("!BBH4s", 0x11, 100, 0, bytes(4))
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    packet = ipv4(MINE, "224.0.0.1", 2, body)
    head = packet[:6] + struct.pack("!H", part) + packet[8:10] + bytes(2) + packet[12:20]
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ethernet(MAC, "01:00:5e:00:00:01", 0x0800, head + packet[20:])


def asks_for_listeners() -> bytes:
    """The same for IPv6, with its router alert; RFC 3810, 5.1."""
    body = struct.pack("!BBHHH16sBBH", 130, 0, 0, 1000, 0, bytes(16), 2, 125, 0)
    pseudo = ipv6(MY_LINK_LOCAL, "ff02::1", 0, b"")[8:] + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return from_v6(ipv6(MY_LINK_LOCAL, "ff02::1", 0, bytes((58, 0, 5, 2, 0, 0, 1, 0)) + body))


HOP_BY_HOP = bytes((58, 0, 1, 4, 0, 0, 0, 0))
"""An extension header before ICMPv6 (RFC 8200, 4.3), which hides the type from a filter that counts bytes."""


def piece(following: int, part: bytes, at: int = 0) -> bytes:
    """A fragment of IPv6 to all machines, and more follow; RFC 8200, 4.5. `at`: where its first byte belongs."""
    return from_v6(ipv6(MY_LINK_LOCAL, "ff02::1", 44, struct.pack("!BBHI", following, 0, at | 1, 77) + part))


PASSES = {
    "a first fragment": piece(17, udp(1000, 2000)[:8]),
    "a later fragment": piece(17, bytes(8), at=8),
    "ARP of its own": arp(MAC, MAC, MINE),
    "UDP": from_v4(ipv4(MINE, OTHER, 17, udp(1000, 2000))),
    "a request to the LAN's DHCP": from_v4(ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67))),
    "a request for its own address": from_v4(asks_dhcp(MAC)),
    "a neighbour solicitation": from_v6(icmpv6(135, "fe80::60")),
    "a neighbour advertisement of its own": from_v6(icmpv6(136, MY_LINK_LOCAL)),
    "a question to a cloud's name server": from_v4(syn(MINE, "168.63.129.16", 53)),
}
DROPPED = {
    "a question to a cloud's metadata": from_v4(syn(MINE, "169.254.169.254", 80)),
    "one of UDP": from_v4(ipv4(MINE, "169.254.169.254", 17, udp(1000, 2000))),
    "one to Azure's": from_v4(syn(MINE, "168.63.129.16", 80)),
    "one to Amazon's over IPv6": from_v6(ipv6(MY_LINK_LOCAL, "fd00:ec2::254", 6, syn_v6(MY_LINK_LOCAL, "fd00:ec2::254", 80))),
    "another MAC": arp(OTHERS_MAC, OTHERS_MAC, MINE),
    "another MAC inside ARP": arp(MAC, OTHERS_MAC, MINE),
    "another MAC with IPv4": from_v4(ipv4(MINE, OTHER, 17, udp(1000, 2000)), source=OTHERS_MAC),
    "the host's address in ARP": arp(MAC, MAC, HOST, 2),
    "the gateway's address in ARP": arp(MAC, MAC, GATEWAY, 2),
    "the host's address": from_v4(ipv4(HOST, OTHER, 17, udp(1000, 2000))),
    "the gateway's address": from_v4(ipv4(GATEWAY, OTHER, 17, udp(1000, 2000))),
    "a request for the address of another": from_v4(asks_dhcp(OTHERS_MAC)),
    "a request in fragments": from_v4(asks_dhcp(OTHERS_MAC, part=32)),
    "a DHCP server": from_v4(ipv4(MINE, "255.255.255.255", 17, udp(67, 68))),
    "a DHCP server on another port": from_v4(ipv4(MINE, "255.255.255.255", 17, udp(1067, 68))),
    "a DHCPv6 server": from_v6(ipv6(MY_LINK_LOCAL, "ff02::1", 17, udp(547, 546))),
    "a router advertisement": from_v6(icmpv6(134)),
    "a router advertisement behind a header": from_v6(ipv6(MY_LINK_LOCAL, "ff02::1", 0, HOP_BY_HOP + icmpv6(134)[40:])),
    "a first fragment with a header cut off": piece(60, bytes((58, 2, 1, 20)) + bytes(4)),
    "a first fragment with all headers but the last": piece(60, bytes((17, 0, 1, 4)) + bytes(4)),
    "a neighbour advertisement in fragments": piece(58, icmpv6(136, LINK_LOCAL)[40:48]),
    "a DHCPv6 server in fragments": piece(17, udp(547, 546)[:8]),
    "a query for members of groups": asks_for_members(),
    "a query for members in a last fragment": asks_for_members(part=1),
    "a query for members in a first fragment": asks_for_members(part=0x2000),
    "a query for listeners": asks_for_listeners(),
    "a redirect": from_v6(icmpv6(137, LINK_LOCAL)),
    "a neighbour advertisement of the host's": from_v6(icmpv6(136, LINK_LOCAL)),
    "a VLAN tag": ethernet(MAC, BROADCAST, 0x8100, struct.pack("!HH", 5, 0x0800) + ipv4(MINE, OTHER, 17, udp(1000, 2000))),
    "a spanning tree": ethernet(MAC, "01:80:c2:00:00:00", 0x0026, bytes.fromhex("424203") + bytes(35)),
    **{
        f"a packet to a switch's address {last}": from_v4(ipv4(MINE, OTHER, 17, udp(1000, 2000)), target=f"01:80:c2:00:00:{last}")
        for last in ("00", "03", "0e", "0f")
    },
    "a protocol of neighbours": ethernet(MAC, "01:80:c2:00:00:0e", 0x88CC, bytes(40)),
}


# --- the machine


class Wire:
    """The other end of the LAN's cable."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
        self.socket.bind(("peer0", 0))

    def hears(self, frame: bytes) -> bool:
        """Whether it arrives. br_netfilter cuts the padding off."""
        return self._until(lambda found: found.ljust(60, b"\0") == frame)

    def answered(self, port: int) -> bool:
        """Whether the host accepts the connection (SYN and ACK)."""
        return self._until(
            lambda f: f[12:14] == b"\x08\x00" and f[23] == 6 and f[34:36] == struct.pack("!H", port) and f[47] == 0x12
        )

    def drops(self) -> int:
        """Drop what has arrived. Return how many frames that are."""
        found = 0
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(2048)
            found += 1
        return found

    def _until(self, wanted: object) -> bool:
        assert callable(wanted)
        deadline = time.monotonic() + 0.4
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0] and wanted(self.socket.recv(2048)):
                return True
        return False


def start(taps: Taps, vm: str) -> int:
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    name = tap_name(vm)
    taps.make_way(name, vm)
    assert libc.unshare(_NEWNET) == 0
    sh(f"ip tuntap add dev {name} mode tap user 1900000000")
    guest = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP))
    holder = subprocess.Popen(["sleep", "60"])
    assert libc.setns(host, _NEWNET) == 0
    os.close(host)
    taps.take(name, vm, holder.pid)
    fcntl.ioctl(guest, _TUNSETVNETHDRSZ, struct.pack("i", _HEADER))
    holder.kill()
    holder.wait()
    return guest


def said_to(guest: int) -> list[bytes]:
    time.sleep(0.2)
    return [frame[_HEADER:] for frame in heard(guest)]


def accepted(frames: list[bytes], port: int) -> bool:
    return any(f[12:14] == b"\x08\x00" and f[23] == 6 and f[34:36] == struct.pack("!H", port) and f[47] == 0x12 for f in frames)


def bridge_state() -> str:
    options = "stp_state forward_delay vlan_filtering nf_call_iptables nf_call_ip6tables multicast_snooping ageing_time priority"
    ports = "learning unicast_flood isolated hairpin_mode bpdu_guard priority path_cost"
    return sh(
        f"cd /sys/class/net/br0; cat address addr_assign_type ifalias mtu; for f in {options}; do echo $f $(cat bridge/$f); done;"
        f"for f in {ports}; do echo $f $(cat brif/lan0/$f); done; ls brif; ip -br addr show br0"
    )


def to_the_host(guest: int, wire: Wire) -> None:
    """A VM reaches ping and the relay; a machine of the LAN reaches what it did, and no relay."""
    mac = sh("cat /sys/class/net/br0/address").strip()
    listeners = [socket.create_server((HOST, port)) for port in (22, 19091)]
    sh(f"ip neigh replace {MINE} lladdr {MAC} dev br0; ip neigh replace {OTHER} lladdr {PEER_MAC} dev br0")
    said_to(guest)
    for port, open_to_vms in ((22, False), (19091, True)):
        os.write(guest, bytes(_HEADER) + from_v4(syn(MINE, HOST, port), target=mac))
        assert accepted(said_to(guest), port) is open_to_vms, f"a VM and port {port}"
        wire.socket.send(from_v4(syn(OTHER, HOST, port), source=PEER_MAC, target=mac))
        assert wire.answered(port) is not open_to_vms, f"a machine of the LAN and port {port}"
    os.write(guest, bytes(_HEADER) + from_v4(echo(MINE, HOST), target=mac))
    assert any(f[12:14] == b"\x08\x00" and f[23] == 1 and f[34] == 0 for f in said_to(guest)), "ping is answered"
    listeners.append(socket.create_server(("127.0.0.1", 19091)))
    assert (opens(HOST, 22), opens(HOST, 19091)) == (True, False), "users of the host reach what they did, and no relay"
    assert opens("127.0.0.1", 19091), "a program of the host may have the port on loopback"
    for one in listeners:
        one.close()


def opens(address: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex((address, port)) == 0


def floods(guest: int) -> None:
    """A VM makes up addresses and numbers. Each of its pings, requests and connections could be one in the host's table."""
    mac = sh("cat /sys/class/net/br0/address").strip()
    for number in range(3000):
        source = f"192.0.2.{100 + number % 100}"
        for packet in (
            echo(source, HOST, number),
            ipv4(source, HOST, 17, udp(68, 67)),
            syn(source, HOST, 19091, 1024 + number),
            syn(source, HOST, 19091, 10_000 + number, flags=0x10),
        ):
            os.write(guest, bytes(_HEADER) + from_v4(packet, target=mac))
    time.sleep(0.5)
    assert int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count")) < 1500


def floods_with_fragments(guest: int) -> None:
    """The rest of none comes. The host keeps each until then, for 30 seconds."""
    mac, netfilter = sh("cat /sys/class/net/br0/address").strip(), "/proc/sys/net/bridge/bridge-nf-call-iptables"
    for number in range(600):
        packet = bytearray(ipv4(MINE, HOST, 17, bytes(1000)))
        packet[4:8] = struct.pack("!HH", number, 0x2000)
        packet[10:12] = bytes(2)
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
        if number == 300 and os.path.exists(netfilter):
            sh(f"echo 0 >{netfilter}")
        frame = bytes(_HEADER) + from_v4(bytes(packet), target=mac)
        os.write(guest, frame + bytes(0 if number % 6 else 60_000))  # the host counts the memory that a frame takes
    time.sleep(0.2)
    words = sh("grep FRAG: /proc/net/sockstat").split()
    kept, memory = int(words[2]), int(words[4])
    assert 10 <= kept < 120, f"the host keeps {kept} of 600 fragments"
    assert memory < 120 * 2560, f"they take {memory} bytes"
    if os.path.exists(netfilter):
        sh(f"echo 1 >{netfilter}")


def floods_the_lan(guest: int, wire: Wire) -> None:
    """With br_netfilter, each of these and of their answers could be a connection in the host's table."""
    sh("iptables -t raw -I PREROUTING -i peer0 -j DROP")  # the other end of the cable is no part of this host
    before = int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count"))
    for number in range(1000):
        os.write(guest, bytes(_HEADER) + from_v4(ipv4(MINE, OTHER, 17, udp(10_000 + number, 53)), target=PEER_MAC))
        os.write(guest, bytes(_HEADER) + from_v4(ipv4(MINE, "192.0.2.255", 17, udp(20_000 + number, 53))))
        wire.socket.send(from_v4(ipv4(OTHER, MINE, 17, udp(53, 30_000 + number)), source=PEER_MAC, target=MAC))
    time.sleep(0.5)
    assert any(f[12:14] == b"\x08\x00" and f[23] == 17 for f in said_to(guest)), "answers reach the VM"
    assert wire.drops() > 1000, "frames of the VM reach the LAN"
    assert int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count")) - before < 50


def main() -> None:
    sh(
        "mount -t sysfs sysfs /sys; ip link set lo up; ip link add lan0 type veth peer name peer0; ip link add br0 type bridge;"
        f"ip link set lan0 master br0; ip addr add {HOST}/24 dev br0; ip -6 addr add {LINK_LOCAL}/64 dev br0 nodad;"
        f"for l in lan0 peer0 br0; do ip link set $l up; done; ip route add default via {GATEWAY}"
    )
    for _ in range(100):  # until the port forwards
        if sh("cat /sys/class/net/lan0/brport/state").strip() == "3":
            break
        time.sleep(0.1)
    before, local = bridge_state(), LocalHost()
    running = record("v", None, tap_name("v"))
    records = [running]
    guard = LanGuard(local, "br0", lambda: records)
    taps = Taps(local, "br0", isolated=False, records=lambda: records, sources=guard, lan=True)
    for spec in (lan_guests("br0", 19091), lan_guests_ipv6("br0")):
        IptablesRules(spec).apply(local)
        IptablesRules(spec).verify(local)
    taps.admit()
    guest, wire = start(taps, "v"), Wire()
    assert taps.pin() == {} and not guard.sync(), "nothing is drawn twice"

    for _ in range(20):  # until the kernel has told the bridge that the port has a carrier
        os.write(guest, bytes(_HEADER) + PASSES["ARP of its own"])
        if wire.hears(PASSES["ARP of its own"]):
            break
    for what, frame in PASSES.items():
        os.write(guest, bytes(_HEADER) + frame)
        assert wire.hears(frame), f"{what} passes"
    for what, frame in DROPPED.items():
        os.write(guest, bytes(_HEADER) + frame)
        assert not wire.hears(frame), f"{what} is dropped"
    said_to(guest)
    for what in ("a DHCP server", "a router advertisement"):
        frame = bytes.fromhex(MAC.replace(":", "")) + bytes.fromhex(PEER_MAC.replace(":", "")) + DROPPED[what][12:]
        wire.socket.send(frame)
        assert frame in [one.ljust(60, b"\0") for one in said_to(guest)], f"{what} of the LAN reaches the VM"
    to_the_host(guest, wire)
    floods(guest)
    floods_with_fragments(guest)
    floods_the_lan(guest, wire)

    sh("iptables -P FORWARD DROP")
    frame = PASSES["UDP"]
    os.write(guest, bytes(_HEADER) + frame)
    netfilter = os.path.exists("/proc/sys/net/bridge")
    assert wire.hears(frame), "Docker's policy does not take the VM off the LAN"
    if netfilter:
        assert "NQR-FWD" in sh("iptables -S")
        sh("echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables")
        assert guard.sync() and "NQR-FWD" not in sh("iptables -S"), "without br_netfilter no rule names a port"

    sh("nft delete table bridge nqrust-microvm")
    os.write(guest, bytes(_HEADER) + DROPPED["a DHCP server"])
    assert wire.hears(DROPPED["a DHCP server"]), "the test can see that the filter is gone"
    assert guard.sync()
    os.write(guest, bytes(_HEADER) + DROPPED["a DHCP server"])
    assert not wire.hears(DROPPED["a DHCP server"])

    records.clear()
    assert guard.sync() and not guard.sync() and running.tap in guard.lacking
    os.write(guest, bytes(_HEADER) + PASSES["UDP"])
    assert not wire.hears(PASSES["UDP"]), "nothing passes while its record cannot be read"
    records.append(running)
    assert guard.sync() and guard.lacking == ""
    os.write(guest, bytes(_HEADER) + PASSES["UDP"])
    assert wire.hears(PASSES["UDP"])

    running.asked = "stop"
    taps.remove(running.tap, owner="v")
    assert running.tap not in sh("nft list ruleset")
    after = bridge_state()
    assert after == before, f"{before}\n---\n{after}"


main()
print("null")
