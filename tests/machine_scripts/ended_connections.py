"""Runs in namespaces of its own: what of a VM's connections is left when its address or its port goes to the next VM.

Run inside: `unshare --net --mount python ended_connections.py LAYERS`. Prints as JSON what was heard. LAYERS: of what ends connections,
`rules`, `kernel`, both or none.

    beyond (netns)   192.0.2.9, clients and servers of the guests
    host             192.0.2.1, fcbr0 10.0.0.1
    a, b (netns)     10.0.0.20, one after the other
    c (netns)        10.0.0.21
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace

from tests.unit.agent.test_network import record

from nqrust.agent.network.forwards import Forwards
from nqrust.agent.settings import Network
from nqrust.contract.names import tap_name
from nqrust.contract.vms import PortForward
from nqrust.host.local import LocalHost
from nqrust.host.port import Connections
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network

LAYERS = sys.argv[1:]
BEYOND, HOST, FIRST, SECOND = "192.0.2.9", "192.0.2.1", "10.0.0.20", "10.0.0.21"
LOG = PortForward(protocol="udp", host_port=5140, guest_port=514)
WEB = PortForward(host_port=8080, guest_port=80)
_NEWNET, _PATIENCE, _SILENCE = 0x40000000, 10.0, 1.0
libc = ctypes.CDLL(None)


class MachineThatKeeps(LocalHost):
    """Its kernel cannot end connections, where the test leaves that out."""

    def end_connections(self, wanted: Collection[Connections]) -> int:
        return super().end_connections(wanted) if "kernel" in LAYERS else 0


def sh(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


class Place:
    """A network namespace with one interface."""

    def __init__(self, name: str) -> None:
        self.name = name
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        assert libc.unshare(_NEWNET) == 0
        self.entry, self.home = os.open("/proc/self/ns/net", os.O_RDONLY), home
        holder = subprocess.Popen(["sleep", "60"])  # ip(8) finds the namespace by a process in it
        assert libc.setns(home, _NEWNET) == 0
        sh(f"ip link add {name} type veth peer name eth0 netns {holder.pid}")
        holder.kill()
        holder.wait()

    def sh(self, line: str) -> None:
        assert libc.setns(self.entry, _NEWNET) == 0
        sh(line)
        assert libc.setns(self.home, _NEWNET) == 0

    def socket(self, kind: int, address: tuple[str, int]) -> socket.socket:
        assert libc.setns(self.entry, _NEWNET) == 0
        made = socket.socket(socket.AF_INET, kind)
        assert libc.setns(self.home, _NEWNET) == 0
        made.settimeout(_PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made


def guest(name: str, ip: str) -> Place:
    made = Place(name)
    sh(f"ip link set {name} master fcbr0; ip link set {name} up")
    made.sh(f"ip addr add {ip}/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.0.1")
    sh(f"ip neigh flush dev fcbr0; bridge fdb flush dev {name} 2>/dev/null || true")
    return made


def heard(one: socket.socket, seconds: float = _PATIENCE) -> str:
    one.settimeout(seconds)
    try:
        return one.recv(99).decode()
    except TimeoutError:
        return ""
    except ConnectionError as error:
        return type(error).__name__


def connected(one: socket.socket, to: tuple[str, int], server: socket.socket) -> tuple[socket.socket, socket.socket]:
    server.listen()
    one.connect(to)
    return one, server.accept()[0]


def talks(ends: tuple[socket.socket, socket.socket]) -> bool:
    ends[0].send(b"asks")
    asked = heard(ends[1])
    ends[1].send(b"answers")
    return (asked, heard(ends[0])) == ("asks", "answers")


def network() -> None:
    spec = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", dns=True)
    if "rules" not in LAYERS:
        kept = [replace(chain, rules=tuple(rule for rule in chain.rules if "EXPECTED" not in rule)) for chain in spec.chains]
        spec = replace(spec, chains=tuple(kept))
    sh("mount -t sysfs sysfs /sys; ip link set lo up; ip link add fcbr0 type bridge; ip addr add 10.0.0.1/24 dev fcbr0")
    sh("ip link set fcbr0 up; echo 1 >/proc/sys/net/ipv4/ip_forward")
    IptablesRules(spec).apply(LocalHost())
    IptablesRules(spec).verify(LocalHost())


def main() -> dict[str, object]:
    network()
    beyond = Place("up0")
    sh(f"ip addr add {HOST}/24 dev up0; ip link set up0 up")
    beyond.sh(f"ip addr add {BEYOND}/24 dev eth0; ip link set eth0 up")
    first, other = guest("port-a", FIRST), guest("port-c", SECOND)
    records = [record("a", FIRST, tap_name("a")), record("c", SECOND, tap_name("c"))]
    records[0].forwards, records[1].forwards = [LOG], [WEB]
    forwards = Forwards(MachineThatKeeps(), Network(), lambda: records)
    assert forwards.sync()
    seen: dict[str, object] = {}

    # c has a connection of its own, and one through a forward, all the time
    own = connected(
        other.socket(socket.SOCK_STREAM, (SECOND, 7000)), (BEYOND, 80), beyond.socket(socket.SOCK_STREAM, (BEYOND, 80))
    )
    led = connected(
        beyond.socket(socket.SOCK_STREAM, (BEYOND, 7001)), (HOST, 8080), other.socket(socket.SOCK_STREAM, (SECOND, 80))
    )
    client, logs = beyond.socket(socket.SOCK_DGRAM, (BEYOND, 40000)), first.socket(socket.SOCK_DGRAM, (FIRST, 514))
    client.connect((HOST, 5140))
    client.send(b"asks")
    logs.connect((BEYOND, 40000))
    server, asking = beyond.socket(socket.SOCK_DGRAM, (BEYOND, 53)), first.socket(socket.SOCK_DGRAM, (FIRST, 700))
    asking.connect((BEYOND, 53))
    asking.send(b"asks")
    server.connect(server.recvfrom(99)[1])
    server.send(b"answers")
    long = connected(
        first.socket(socket.SOCK_STREAM, (FIRST, 701)), (BEYOND, 81), beyond.socket(socket.SOCK_STREAM, (BEYOND, 81))
    )
    seen["at first"] = [heard(logs), heard(asking), talks((client, logs)), talks(long), talks(own), talks(led)]

    # an error about an answer of a forward reaches the guest, as its path's MTU would
    client.close()
    logs.send(b"answers")
    seen["an error"] = heard(logs)
    client = beyond.socket(socket.SOCK_DGRAM, (BEYOND, 40000))
    client.connect((HOST, 5140))
    # so do answers where the host leads a guest's own connection elsewhere, as Docker does
    sh(f"iptables -t nat -A PREROUTING -i fcbr0 -d 10.0.0.1 -p udp --dport 99 -j DNAT --to-destination {BEYOND}:99")
    elsewhere, caller = beyond.socket(socket.SOCK_DGRAM, (BEYOND, 99)), first.socket(socket.SOCK_DGRAM, (FIRST, 702))
    caller.connect(("10.0.0.1", 99))
    caller.send(b"asks")
    elsewhere.connect(elsewhere.recvfrom(99)[1])
    seen["led elsewhere"] = talks((caller, elsewhere))

    # the port goes to c
    records[0].forwards, records[1].forwards = [], [WEB, LOG]
    forwards.sync()
    moved = other.socket(socket.SOCK_DGRAM, (SECOND, 514))
    client.send(b"more")
    seen["after the move"] = {"a": heard(logs, _SILENCE), "c": heard(moved, _SILENCE)}
    seen["others"] = [talks(long), talks(own), talks(led)]

    # a goes, and b gets its address
    del records[0]
    forwards.sync()
    sh("ip link del port-a")
    second = guest("port-b", FIRST)
    forwards.connections.end(Connections(FIRST))
    seen["lacking"] = forwards.connections.lacking
    new = [second.socket(socket.SOCK_DGRAM, (FIRST, port)) for port in (514, 700)]
    client.send(b"more")
    server.send(b"more")
    seen["b hears"] = [heard(one, _SILENCE) for one in new]
    seen["c talks on"] = [talks(own), talks(led)]
    return seen


print(json.dumps(main()))
