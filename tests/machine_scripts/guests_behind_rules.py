"""Runs in namespaces of its own: the rules of a VM network with two guests and a machine beyond, and what the guests reach.

Run inside: `unshare --net --mount python guests_behind_rules.py NETWORK_SCRIPT WHAT`. Prints what was seen as JSON.

    web (netns)    198.51.100.1, 169.254.169.254, 168.63.129.16, 2001:db8:1::2
      uplink       198.51.100.2
    host           fcbr0 10.0.0.1, listeners on port 8080 and 53
      port0 port1  isolated ports of the bridge, as an agent's TAPs
    guest0 guest1  10.0.0.20, 10.0.0.21
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dhcp_of_nqr  # beside this script
import guest_programs
import guest_that_broadcasts
import guests_and_clouds
import guests_in_fragments
import guests_that_begin
import names_for_guests
import others_at_the_gateway
from tests.unit.installer.verbs.network.test_guest_rules import FORMER, IPV6, NOW

from nqrust.agent.network.rules import NetworkRules
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs import registry as verbs
from nqrust.installer.verbs.firewall.rules import IptablesRules

SCRIPT, WHAT = sys.argv[1:]
GUESTS = ("10.0.0.20", "10.0.0.21")
WEB, FLOOD = "198.51.100.1", 20_000


def sh(line: str, *, check: bool = True) -> str:
    return subprocess.run(line, shell=True, check=check, capture_output=True, text=True).stdout


def inside(name: str, code: str, *arguments: object) -> str:
    """What Python `code` prints in the namespace `name`."""
    done = subprocess.run(
        ["ip", "netns", "exec", name, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reaches(guest: int, address: str, port: int = 8080) -> bool:
    return inside(f"guest{guest}", guest_programs.CONNECT, address, port) == "yes"


def listen(namespace: str = "", port: int = 8080) -> None:
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    started = subprocess.Popen(
        [*enter, sys.executable, "-c", guest_programs.LISTEN.replace("8080", str(port))], stdout=subprocess.PIPE
    )
    assert started.stdout is not None and started.stdout.readline() == b"ready\n"
    ENDING.append(started.kill)


ENDING: list[Callable[[], Any]] = []


def lay_out() -> None:
    if "LEGACY" in os.environ:  # what update-alternatives(1) makes of iptables, in this mount namespace
        mount = "mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi"
        assert "legacy" in sh(f"{mount}; iptables --version")
    sh("mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir -p /run/netns; ip link set lo up")
    for name in ("web", "guest0", "guest1"):
        sh(f"ip netns add {name}; ip -n {name} link set lo up")
    sh("ip link add uplink type veth peer name eth0 netns web; ip link set uplink up; ip addr add 198.51.100.2/24 dev uplink")
    sh(f"ip -n web addr add {WEB}/24 dev eth0; ip -n web link set eth0 up")
    for one in guests_and_clouds.ADDRESSES:
        sh(f"ip -n web addr add {one}/32 dev eth0; ip route add {one}/32 dev uplink")
    sh("ip -n web route add default via 198.51.100.2")
    sh(f"{SCRIPT} up")
    for number, address in enumerate(GUESTS):
        sh(f"ip link add port{number} type veth peer name eth0 netns guest{number}")
        sh(f"ip link set port{number} master fcbr0 up; ip link set port{number} type bridge_slave isolated on")
        sh(f"ip -n guest{number} addr add {address}/24 dev eth0; ip -n guest{number} link set eth0 up")
        sh(f"ip -n guest{number} route add default via 10.0.0.1")
    for namespace in ("", "web", "guest1"):
        listen(namespace)


def rules() -> str:
    return sh("iptables-save") + sh("ip6tables-save")


def ours(saved: str) -> list[str]:
    return [line for line in saved.splitlines() if line.startswith("-A") and "NQR" in line]


def link_local(namespace: str, device: str) -> str:
    enter = f"ip -n {namespace}" if namespace else "ip"
    for _ in range(50):
        for word in sh(f"{enter} -6 -o addr show dev {device} scope link -tentative").split():
            if word.startswith("fe80"):
                return word.partition("/")[0]
        time.sleep(0.1)
    raise AssertionError("no link-local address")


def over_ipv6() -> dict[str, object]:
    sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.fcbr0.disable_ipv6=0 net.ipv6.conf.all.forwarding=1")
    sh("ip -6 addr add 2001:db8:1::1/64 dev uplink nodad; ip -n web -6 addr add 2001:db8:1::2/64 dev eth0 nodad")
    sh("ip -n guest0 -6 addr add 2001:db8:2::2/64 dev eth0 nodad; ip -6 addr add 2001:db8:2::1/64 dev fcbr0 nodad")
    sh("ip -n web -6 route add 2001:db8:2::/64 via 2001:db8:1::1")
    host, neighbour = link_local("", "fcbr0"), link_local("guest1", "eth0")
    sh("ip -n guest0 -6 route add default via 2001:db8:2::1")

    def seen() -> dict[str, bool]:
        return {
            "host": reaches(0, f"{host}%eth0"),
            "neighbour": reaches(0, f"{neighbour}%eth0"),
            "beyond": reaches(0, "2001:db8:1::2"),
        }

    closed = seen()
    sh("ip6tables -F NQR-INPUT; ip6tables -F NQR-FORWARD")
    opened = seen()
    return {"closed": closed, "without the rules": opened}


def kept_up() -> dict[str, object]:
    keeper = NetworkRules(LocalHost(), SCRIPT)
    said: dict[str, object] = {"at first": keeper.keep()}
    first = rules()
    for name, damage in {
        "a chain flushed": "iptables -F NQR-INPUT",
        "everything flushed": "iptables -F; iptables -X; iptables -t nat -F; ip6tables -F; ip6tables -X",
        "IPv6 flushed": "ip6tables -F",
        "IPv6 turned on": "sysctl -qw net.ipv6.conf.fcbr0.disable_ipv6=0",
        "answers to every ARP request": "sysctl -qw net.ipv4.conf.fcbr0.arp_filter=0",
        "a rule before ours": "iptables -I NQR-INPUT 1 -j ACCEPT",
        "another MAC of the bridge": "ip link set dev fcbr0 address 02:00:00:00:00:01",
    }.items():
        sh(damage)
        said[name] = [keeper.keep(), keeper.keep()]
    sh("ip link set dev port0 address 02:00:00:00:00:01")
    said["MAC of the bridge"] = sh("cat /sys/class/net/fcbr0/address").strip()
    said["as at first"] = ours(rules()) == ours(first)
    said["disable_ipv6"] = sh("cat /proc/sys/net/ipv6/conf/fcbr0/disable_ipv6").strip()
    sh(f"{SCRIPT} down")
    said["left"] = [line for line in rules().splitlines() if "NQR" in line]
    return said


_TELLS_PEER = """
import socket
server = socket.create_server(("", 9000))
print("ready", flush=True)
while True:
    peer, address = server.accept()
    peer.sendall(address[0].encode())
    peer.close()
"""
_ASKS_PEER = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 9000), timeout=2) as server: print(server.recv(99).decode())
except OSError: print("out of reach")
"""


def moved() -> dict[str, str]:
    """By the state of the host's default route: the address that a server beyond sees when a guest connects."""
    sh("ip link add uplink2 type veth peer name eth1 netns web; ip link set uplink2 up; ip addr add 192.0.2.2/24 dev uplink2")
    sh("ip -n web addr add 192.0.2.1/24 dev eth1; ip -n web link set eth1 up; ip -n web addr add 203.0.113.9/32 dev lo")
    argv = ["ip", "netns", "exec", "web", sys.executable, "-c", _TELLS_PEER]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    ENDING.append(server.kill)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    found = {}
    for state, line in {
        "first uplink": "ip route add default via 198.51.100.1",
        "second uplink": "ip route replace default via 192.0.2.1",
        "none": "ip route del default",
        "first again, second down": "ip link set uplink2 down; ip route add default via 198.51.100.1",
    }.items():
        sh(line)
        found[state] = inside("guest0", _ASKS_PEER, "203.0.113.9")
    return found


def answer_queries(asked: Counter[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        server.bind(("10.0.0.1", 53))
        while True:
            _, source = server.recvfrom(100)
            asked[source[0]] += 1
            server.sendto(b"answer", source)


def tracked() -> int:
    return int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count"))


def flooded() -> dict[str, object]:
    asked: Counter[str] = Counter()
    threading.Thread(target=answer_queries, args=(asked,), daemon=True).start()
    began = time.monotonic()
    inside("guest0", guest_programs.SEND, WEB, 10_000, FLOOD, 100)
    said: dict[str, object] = {"tracked": tracked(), "neighbour reaches the web": reaches(1, WEB)}
    said["seconds of it"] = time.monotonic() - began
    began = time.monotonic()
    inside("guest0", guest_programs.SEND, "10.0.0.1", 53, FLOOD, 1)
    said["answered of the flood"], said["seconds"] = asked[GUESTS[0]], time.monotonic() - began
    said["answered of the neighbour's 20"] = int(inside("guest1", guest_programs.ASK, "10.0.0.1"))
    inside("guest0", guest_programs.STRANGERS, "10.0.0.1", FLOOD)
    said["answered after strangers"] = int(inside("guest1", guest_programs.ASK, "10.0.0.1"))
    said["strangers heard"] = sum(1 for source in asked if source not in GUESTS)
    said["opened by one"] = sum(reaches(0, "10.0.0.1") for _ in range(2))
    return said


def hears_of_the_neighbour(address: str) -> str:
    """What guest 1 hears when guest 0 sends it a packet."""
    argv = ["ip", "netns", "exec", "guest1", sys.executable, "-c", guest_programs.HEARS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == "ready\n"
        inside("guest0", guest_programs.SEND, address, 161, 1, 1)
        return listener.stdout.readline().strip()


def led_round() -> dict[str, object]:
    """Guest 0 sends what is for its neighbours to the gateway's MAC, so that the host routes it."""
    sh(f"ip -n guest0 route add {GUESTS[1]}/32 via 10.0.0.1; ip -n guest0 route add 10.0.0.128/25 via 10.0.0.1")
    said: dict[str, object] = {"the neighbour hears": hears_of_the_neighbour(GUESTS[1])}
    inside("guest0", guest_programs.SEND, "10.0.0.150", 10_000, FLOOD, 100)
    inside("guest0", guest_programs.SEND, GUESTS[1], 10_000, FLOOD, 100)
    said["tracked"] = tracked()
    sh("iptables -D NQR-FORWARD 2")
    return said | {"the neighbour hears without the rule": hears_of_the_neighbour(GUESTS[1])}


def strange_neighbours() -> int:
    """Addresses outside the VM network that the host takes for neighbours, after a guest asked for the gateway as each of them."""
    inside("guest0", guest_programs.ARP)
    time.sleep(0.3)
    return sum(line.startswith("11.0.0.") for line in sh("ip -4 neigh show dev fcbr0").splitlines())


def asked_for() -> dict[str, object]:
    sh("ip route add default via 198.51.100.1")  # a loose reverse path filter believes everything then
    sh("sysctl -qw net.ipv4.conf.all.rp_filter=2")
    said: dict[str, object] = {"neighbours": strange_neighbours(), "the guest reaches the world": reaches(0, WEB)}
    sh("sysctl -qw net.ipv4.conf.fcbr0.arp_filter=0")
    return said | {"without the filter": strange_neighbours()}


def records_of_guests() -> list[Any]:
    macs = [sh(f"ip netns exec guest{guest} cat /sys/class/net/eth0/address").strip() for guest in (0, 1)]
    return [SimpleNamespace(id=f"vm{n}", ip=GUESTS[n], mac=mac, asked="run", tap=f"port{n}") for n, mac in enumerate(macs)]


def guarded() -> tuple[list[Any], Sources, dict[str, object]]:
    host, records = LocalHost(), records_of_guests()
    sources, taps = Sources(host, "fcbr0", lambda: records), Taps(host, "fcbr0", isolated=True)
    said: dict[str, object] = {"drawn": [sources.sync(), sources.sync()], "lacking": sources.lacking}
    for number, record in enumerate(records):
        taps._pin_port(f"port{number}", record.mac)
        sh(f"ip neigh replace {record.ip} lladdr {record.mac} dev fcbr0 nud permanent")
    return records, sources, said


def pretended() -> dict[str, object]:
    records, sources, said = guarded()
    said["own"] = [reaches(number, WEB) for number in (0, 1)]
    sh("ip -n guest0 addr flush dev eth0; ip -n guest0 addr add 10.0.0.21/24 dev eth0")
    sh("ip -n guest0 route replace default via 10.0.0.1")
    inside("guest0", guest_programs.SEND, WEB, 10_000, 5_000, 100)
    said["the neighbour after its address was flooded"] = reaches(1, WEB)
    said["tracked of the flood"] = tracked()
    sh("ip -n guest0 addr flush dev eth0; ip -n guest0 addr add 10.0.0.99/24 dev eth0; ip -n guest0 link set eth0 down")
    sh("ip -n guest0 link set eth0 address 06:4e:01:02:03:04 up; ip -n guest0 route replace default via 10.0.0.1")
    said["with a new MAC and address"] = reaches(0, WEB)
    sh("ip link set port0 type bridge_slave locked off learning on")
    said["with the port unlocked"] = reaches(0, WEB)
    records.clear()
    said["gone"] = [sources.sync(), sources.sync(), "NQR-SOURCE" in rules()]
    records += records_of_guests()[1:]
    sources.sync()
    sh(f"{SCRIPT} down")
    return said | {"left": [line for line in rules().splitlines() if "NQR" in line]}


def broadcast() -> dict[str, object]:
    guest = records_of_guests()[0]
    said = guest_that_broadcasts.seen(guest, tracked, sh, lambda *of: inside("guest0", guest_programs.BROADCAST, *of))
    sh(f"{SCRIPT} down")
    return said | {"left": [line for line in rules().splitlines() if "NQR" in line]}


DISCOVER, RENEW, DECLINE = 1, 3, 4


def dhcp_of(guest: int, in_name_of: str, kind: int, address: str = "0.0.0.0", number: int = 1, seconds: float = 2) -> str:
    """The address in the answer that the guest hears."""
    return inside(f"guest{guest}", guest_programs.DHCP, in_name_of, kind, address, number, seconds)


def asked_for_an_address() -> dict[str, object]:
    records, _, said = guarded()
    ENDING.append(dhcp_of_nqr.serve(records).kill)
    said["own"] = [dhcp_of(number, records[number].mac, DISCOVER) for number in (0, 1)]
    said["in the neighbour's name"] = dhcp_of(0, records[1].mac, DISCOVER)
    dhcp_of(0, records[1].mac, DECLINE, GUESTS[1], seconds=0.5)
    after = dhcp_of(1, records[1].mac, DISCOVER), dhcp_of(1, records[1].mac, RENEW, GUESTS[1])
    said["the neighbour after that"] = after
    before, began = os.path.getsize(dhcp_of_nqr.LOG), time.monotonic()
    flood = threading.Thread(target=dhcp_of, args=(0, records[0].mac, DISCOVER, "0.0.0.0", 3 * FLOOD, 0))
    flood.start()
    answered = 0
    while flood.is_alive():
        answered += dhcp_of(1, records[1].mac, DISCOVER) == GUESTS[1]
        said["the neighbour asked"] = int(str(said.get("the neighbour asked", 0))) + 1
        time.sleep(0.2)
    said["the neighbour heard"] = answered
    log = Path(dhcp_of_nqr.LOG).read_bytes()[before:].decode()
    said["answered of the flood"], said["seconds"] = log.count(f"DHCPOFFER(fcbr0) {GUESTS[0]}"), time.monotonic() - began
    return said


def installed() -> dict[str, object]:
    sh(f"{SCRIPT} down")
    host, records = LocalHost(), records_of_guests()[1:]
    said: dict[str, object] = {"at first": ours(rules())}
    undo = []
    for name, spec in {"former": FORMER, "now": NOW, "IPv6": IPV6}.items():
        step = IptablesRules(spec)
        undo += step.prepare(host).undo
        step.apply(host)
        step.verify(host)
        said[name] = isinstance(step.inspect(host), Satisfied)
    said["the script finds the same"] = NetworkRules(host, SCRIPT).keep()
    Sources(host, "fcbr0", lambda: records).sync()  # type: ignore[arg-type, return-value]
    others_at_the_gateway.RelayPort(host, "fcbr0", 19091).sync()
    said["with the agent's"] = all(isinstance(IptablesRules(spec).inspect(host), Satisfied) for spec in (NOW, IPV6))
    context = UndoContext(host, Originals(host, "/run/originals"))
    for one in reversed(undo):
        verbs.revert(context, one)
    said["left"] = [line for line in rules().splitlines() if "NQR" in line]
    return said


WHATS = {
    "install": installed,
    "ipv6": over_ipv6,
    "upkeep": kept_up,
    "beyond": lambda: guests_and_clouds.seen(sh, reaches, listen, WEB),
    "moved": moved,
    "flood": flooded,
    "pretend": pretended,
    "broadcast": broadcast,
    "begin": lambda: guests_that_begin.seen(records_of_guests(), inside, WEB, 8080),
    "fragments": lambda: guests_in_fragments.seen(sh, inside, WEB, SCRIPT),
    "names": lambda: names_for_guests.seen(sh, inside, ENDING),
    "arp": asked_for,
    "owner": lambda: others_at_the_gateway.seen_of_a_user(inside, sh),
    "others": lambda: others_at_the_gateway.seen(inside, sh, ENDING),
    "gateway": led_round,
    "dhcp": asked_for_an_address,
}
try:
    lay_out()
    print(json.dumps(WHATS[WHAT]()))
finally:
    for end in ENDING:
        end()
