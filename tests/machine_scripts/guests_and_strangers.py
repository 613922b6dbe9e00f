"""Runs in namespaces of its own: a guest, its host, and a machine of the network beyond that helps the guest or acts alone.

Run inside: `unshare --net --mount python guests_and_strangers.py NETWORK_SCRIPT WHAT`. Prints what was seen as JSON.

    beyond (netns)   198.51.100.1
      uplink         198.51.100.2
    host             fcbr0 10.0.0.1
    guest, other     10.0.0.20, 10.0.0.21
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing

from packets import sh
from tests.unit.agent.test_network import record

from nqrust.agent.network.forwards import Forwards
from nqrust.agent.network.rules import NetworkRules
from nqrust.agent.settings import Network
from nqrust.contract.names import tap_name
from nqrust.contract.vms import PortForward
from nqrust.host.conntrack import Conntrack
from nqrust.host.local import LocalHost
from nqrust.host.port import Connections
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs import registry as verbs
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network

SCRIPT, WHAT = sys.argv[1:]
BEYOND, HOST, GUEST = "198.51.100.1", "198.51.100.2", "10.0.0.20"
UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
_NEWNET, _PATIENCE = 0x40000000, 0.7
libc = ctypes.CDLL(None)


def lay_out() -> None:
    if "LEGACY" in os.environ:  # what update-alternatives(1) makes of iptables, in this mount namespace
        assert "legacy" in sh("mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi; iptables --version")
    sh("mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir -p /run/netns; ip link set lo up")
    for name in ("beyond", "guest", "other"):
        sh(f"ip netns add {name}; ip -n {name} link set lo up")
    sh(f"ip link add uplink type veth peer name eth0 netns beyond; ip link set uplink up; ip addr add {HOST}/24 dev uplink")
    sh(f"ip -n beyond addr add {BEYOND}/24 dev eth0; ip -n beyond link set eth0 up; ip -n beyond route add default via {HOST}")
    sh(f"{SCRIPT} up")
    for name, address in (("guest", GUEST), ("other", "10.0.0.21")):
        sh(f"ip link add of-{name} type veth peer name eth0 netns {name}; ip link set of-{name} master fcbr0 up")
        sh(
            f"ip -n {name} addr add {address}/24 dev eth0; ip -n {name} link set eth0 up; ip -n {name} route add default via 10.0.0.1"
        )


def opened(name: str, kind: int, port: int = 0) -> socket.socket:
    """A socket of the host (""), or in a namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if name:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY)
        assert libc.setns(there, _NEWNET) == 0
        os.close(there)
    try:
        made = socket.socket(socket.AF_INET, kind)
    finally:
        assert libc.setns(home, _NEWNET) == 0
        os.close(home)
    made.settimeout(_PATIENCE)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def tracked() -> int:
    return int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count"))


def connects(source: socket.socket, target: tuple[str, int]) -> bool:
    try:
        source.connect(target)
    except OSError:
        return False
    return True


def hears(one: socket.socket) -> bool:
    try:
        return bool(one.recv(100))
    except OSError:
        return False


def accepts(one: socket.socket) -> bool:
    try:
        one.accept()[0].close()
    except OSError:
        return False
    return True


def heard(one: socket.socket) -> int:
    """The packets that wait there."""
    one.setblocking(False)
    number = 0
    while hears(one):
        number += 1
    one.settimeout(_PATIENCE)
    return number


# --- services of the host


def reached_over_udp(name: str, service: int, client: int) -> bool:
    """Whether a machine beyond reaches the service of the host after the guest `name` sent from the port of that service."""
    host, beyond, guest = opened("", UDP, service), opened("beyond", UDP, client), opened(name, UDP, service)
    with closing(host), closing(beyond), closing(guest):
        guest.sendto(b"of the guest", (BEYOND, client))
        hears(beyond)
        beyond.sendto(b"to the service", (HOST, service))
        return hears(host)


def reached_over_tcp(name: str, service: int, client: int) -> bool:
    with closing(opened("", TCP, service)) as host, closing(opened(name, TCP, service)) as guest:
        host.listen()
        connects(guest, (BEYOND, client))  # nobody answers: the host remembers it for two minutes
        with closing(opened("beyond", TCP, client)) as beyond:
            connects(beyond, (HOST, service))  # the guest may answer
            return accepts(host)


def services() -> dict[str, object]:
    sh("ip netns exec beyond iptables -A INPUT -p tcp -m conntrack --ctstate NEW -j DROP")

    def reached(name: str, client: int) -> dict[str, bool]:
        found = {f"udp {port}": reached_over_udp(name, port, client) for port in (500, 51820)}
        return found | {f"tcp {port}": reached_over_tcp(name, port, client) for port in (19090, 50000)}

    said: dict[str, object] = {"services": reached("guest", 40001)}
    with closing(opened("beyond", UDP, 53)) as server:
        for _ in range(300):
            with closing(opened("guest", UDP)) as guest:
                guest.sendto(b"query", (BEYOND, 53))
        said["of 300 to one port"] = heard(server)
        with closing(opened("other", UDP)) as other:
            other.sendto(b"query", (BEYOND, 53))
            said["of the other guest"] = hears(server)
    sh("iptables -t nat -F NQR-POSTROUTING; iptables -t nat -A NQR-POSTROUTING -s 10.0.0.0/24 ! -o fcbr0 -j MASQUERADE")
    # Linux gives a port of a guest the same port at the host again, so the other guest sends now.
    return said | {"services without the ranges": reached("other", 40002)}


# --- forwards


def forwarded() -> dict[str, object]:
    """How many of 6,000 connections that a machine beyond begins to a VM's port the host passes on and remembers."""
    led = PortForward(protocol="udp", host_port=5140, guest_port=514)
    vm = record("a", GUEST, tap_name("a")).model_copy(update={"forwards": [led]})
    forwards = Forwards(LocalHost(), Network(), lambda: [vm])
    said: dict[str, object] = {"drawn": [forwards.sync(), forwards.sync()], "lacking": forwards.lacking}

    def remembered() -> int:
        before = tracked()
        for port in range(10_000, 16_000):
            with closing(opened("beyond", UDP, port)) as one:
                one.sendto(b"to the guest", (HOST, led.host_port))
        found = tracked() - before
        Conntrack().end_connections([Connections(GUEST)])
        return found

    began = time.monotonic()
    said["a second"], said["seconds"] = remembered(), time.monotonic() - began
    sh("iptables -D NQR-FWD 1")
    said["open"] = remembered()
    sh("iptables -D NQR-FWD 1")
    return said | {"without the bounds": remembered(), "put back": [forwards.sync(), forwards.sync()]}


# --- streams that nobody answers, such as syslog's


def streams() -> dict[str, object]:
    """How much of a stream from one socket arrives: of a guest, and through the forward of a VM."""
    vm = record("a", GUEST, tap_name("a")).model_copy(
        update={"forwards": [PortForward(protocol="udp", host_port=5140, guest_port=514)]}
    )
    Forwards(LocalHost(), Network(), lambda: [vm]).sync()
    said: dict[str, object] = {}
    for what, source, sink, target in (
        ("of a guest", "guest", "beyond", (BEYOND, 514)),
        ("through a forward", "beyond", "guest", (HOST, 5140)),
    ):
        with closing(opened(sink, UDP, 514)) as server, closing(opened(source, UDP)) as one:
            number = 0
            for _ in range(20):  # a socket keeps some hundred packets
                for _ in range(100):
                    one.sendto(b"line", target)
                number += heard(server)
            said[what] = number
    return said


# --- forwarding


def passed_on() -> dict[str, object]:
    """What a machine beyond sends to another network of the host, through the host as its router."""
    sh(
        "ip netns add within; ip link add lan type veth peer name eth0 netns within; ip link set lan up; ip addr add 192.0.2.2/24 dev lan"
    )
    sh("ip -n within addr add 192.0.2.9/24 dev eth0; ip -n within link set eth0 up; ip -n within route add default via 192.0.2.2")
    keeper = NetworkRules(LocalHost(), SCRIPT)
    said: dict[str, object] = {"at first": keeper.keep()}

    def arrive(number: int = 1, name: str = "beyond") -> int:
        with closing(opened("within", UDP, 514)) as server:
            for _ in range(number):
                with closing(opened(name, UDP)) as one:
                    one.sendto(b"through the host", ("192.0.2.9", 514))
            return heard(server)

    said["of 200"], said["remembered"], said["of a guest"] = arrive(200), tracked(), arrive(1, "guest")
    sh("iptables -I FORWARD -i uplink -o lan -j ACCEPT")
    said["accepted before"] = arrive()
    sh("iptables -D FORWARD 1; iptables -A FORWARD -i uplink -o lan -j ACCEPT")
    said["accepted after"], said["put back"], said["accepted then"] = arrive(), [keeper.keep(), keeper.keep()], arrive()
    sh("iptables -I FORWARD 1 -m comment --comment nqrust -j NQR-ROUTED")  # as rules that somebody saved bring it
    said["accepted behind a second jump"], said["one again"], said["accepted again"] = arrive(), keeper.keep(), arrive()
    sh("iptables -D FORWARD -i uplink -o lan -j ACCEPT; iptables -F NQR-ROUTED")
    said["without the rule"] = arrive(200)
    said["put back again"] = [keeper.keep(), keeper.keep()]
    sh(f"{SCRIPT} down")
    return said | {"left": [line for line in sh("iptables-save").splitlines() if "NQR" in line]}


def stepped() -> dict[str, object]:
    """The installer's steps: over the former rules, for a host that forwards for others, back to the first, and all taken back."""
    sh(f"{SCRIPT} down; iptables -A FORWARD -i wg0 -j ACCEPT")
    host, undo = LocalHost(), []
    said: dict[str, object] = {}
    alone, others = (vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", routes=routes) for routes in (False, True))
    for name, spec in {"former": others, "alone": alone, "others": others, "alone again": alone}.items():
        step = IptablesRules(spec)
        undo.append(step.prepare(host).undo)
        step.apply(host)
        step.verify(host)
        jumps = sh("iptables -S FORWARD").splitlines()[1:]
        said[name] = [isinstance(step.inspect(host), Satisfied), *(line.split()[-1] for line in jumps)]
    context = UndoContext(host, Originals(host, "/run/originals"))
    for name, records in zip(("others once more", "alone once more", "former", "nothing"), reversed(undo), strict=True):
        for one in records:
            verbs.revert(context, one)
        said[f"back to {name}"] = [line.split()[-1] for line in sh("iptables -S FORWARD").splitlines()[1:]]
    return said | {"left": [line for line in sh("iptables-save").splitlines() if "NQR" in line]}


WHATS: dict[str, Callable[[], dict[str, object]]] = {
    "services": services,
    "forwards": forwarded,
    "streams": streams,
    "router": passed_on,
    "steps": stepped,
}
lay_out()
print(json.dumps(WHATS[WHAT]()))
