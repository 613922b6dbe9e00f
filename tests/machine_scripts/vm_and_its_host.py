"""Runs in namespaces of its own: a VM on a LAN's bridge that goes at its host in other ways than by its port.

Run inside: `unshare --net --mount python vm_and_its_host.py MODE`. Prints what was seen as JSON.

    vm (netns)       v0, 192.0.2.50 and fd00:2::50
      tap            the VM's port of br0
    host             br0 with 192.0.2.1 and fd00:2::1, another link with 198.51.100.1 and fd00:7::1
      lan0           the host's card, a port of br0
    router (netns)   r0, 192.0.2.254 and fd00:2::fe, which leads everything that is the host's to it
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from packets import sh
from tests.unit.agent.test_network import record

from nqrust.agent.network.lan import LanGuard
from nqrust.contract.names import mac_address, tap_name
from nqrust.host.local import LocalHost
from nqrust.installer.verbs.firewall.lan import lan_guests, lan_guests_ipv6
from nqrust.installer.verbs.firewall.rules import IptablesRules

TAP, MAC = tap_name("v"), mac_address("v")
HOST, HOST6, FAR, FAR6 = "192.0.2.1", "fd00:2::1", "198.51.100.1", "fd00:7::1"
SSH, RELAY = 22, 19091
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"
_SERVES = "import socket\ns = socket.create_server(('', 80))\nprint(flush=True)\nwhile 1: s.accept()"
_NETNS = {"vm": ("v0", TAP, "192.0.2.50", "fd00:2::50"), "router": ("r0", "lan0", "192.0.2.254", "fd00:2::fe")}


def inside(netns: str, program: str, *arguments: object) -> str | None:
    """What the Python `program` prints in a namespace, None if it fails."""
    program = f"import sys; sys.path.insert(0, {sys.path[0]!r})\n{program}"
    argv = ["ip", "netns", "exec", netns, sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def connects(target: str, port: int, netns: str = "vm") -> bool:
    return inside(netns, _CONNECT, target, port) is not None


def mac_of(link: str, netns: str = "") -> str:
    (found,) = json.loads(sh(f"ip {f'-n {netns}' if netns else ''} -j link show {link}"))
    return str(found["address"])


def make_machines() -> LanGuard:
    sh("mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir /run/netns; ip link set lo up; ip link add br0 type bridge")
    sh("for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
    for netns, (link, port, v4, v6) in _NETNS.items():
        sh(f"ip netns add {netns}; ip link add {port} type veth peer name {link} netns {netns}; ip link set {port} master br0 up")
        sh(f"ip -n {netns} link set lo up; ip netns exec {netns} sysctl -qw net.ipv6.conf.all.accept_dad=0")
        sh(f"[ {netns} = router ] || ip -n vm link set v0 address {MAC}; ip -n {netns} link set {link} up")
        sh(f"ip -n {netns} addr add {v4}/24 dev {link}; ip -n {netns} addr add {v6}/64 dev {link} nodad")
    sh("ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0")
    sh(f"ip link set br0 address {mac_of('br0')} up; ip addr add {HOST}/24 dev br0; ip addr add {HOST6}/64 dev br0 nodad")
    sh(f"ip link add far0 type bridge; ip link set far0 up; ip addr add {FAR}/24 dev far0; ip addr add {FAR6}/64 dev far0 nodad")
    sh("ip route add default via 192.0.2.254; ip -6 route add default via fd00:2::fe")
    for way, home, gateway in ((FAR, HOST, "192.0.2.254"), (FAR6, HOST6, "fd00:2::fe")):
        sh(f"ip -n router route add {way} via {home}; ip -n vm route add default via {gateway}")
    for spec in (lan_guests("br0", RELAY), lan_guests_ipv6("br0")):
        IptablesRules(spec).apply(LocalHost())
        IptablesRules(spec).verify(LocalHost())
    records = [record("v", None, TAP)]
    guard = LanGuard(LocalHost(), "br0", lambda: records)
    guard.sync()
    return guard


def by_the_router(guard: LanGuard) -> dict[str, object]:
    """The VM sends what is for its host to the router, which leads it there: then it is a packet of the router's."""
    listeners = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (SSH, RELAY)]
    targets = {"v4": HOST, "v6": HOST6, "another link's": FAR, "another link's v6": FAR6}

    def found(port: int) -> list[str]:
        return [name for name, target in targets.items() if connects(target, port)]

    said: dict[str, object] = {"straight": [found(SSH), found(RELAY)]}
    for target in (HOST, HOST6):
        sh(f"ip -n vm neigh replace {target} lladdr {mac_of('r0', 'router')} dev v0 nud permanent")
    said["by the router"] = found(SSH)
    sh("ip addr add 203.0.113.9/32 dev far0; ip -n router route add 203.0.113.9 via 192.0.2.1")
    said["a new address"] = [connects("203.0.113.9", SSH), guard.sync(), connects("203.0.113.9", SSH)]
    said["drawn twice"] = guard.sync()
    sh("ip -n router addr add 203.0.113.77/32 dev lo")
    with serving("router"):
        said["others"] = [connects("192.0.2.254", 80), connects("203.0.113.77", 80)]
    for target in (HOST, HOST6):
        sh(f"ip -n vm neigh del {target} dev v0")
    said["the host to its VM"] = host_connects()
    for one in listeners:
        one.close()
    return said


@contextlib.contextmanager
def serving(netns: str, program: str = _SERVES) -> Iterator[None]:
    """While that program runs there: port 80."""
    with subprocess.Popen(["ip", "netns", "exec", netns, sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        yield
        server.kill()


def host_connects() -> bool:
    with serving("vm"):
        return connects_from_here("192.0.2.50")


_FLOOD = """
import socket, struct, sys
from packets import ethernet, ipv4, checksum
mac, own, source, target, count = sys.argv[1:]
port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
port.bind(("v0", 0))
ends = [socket.inet_aton(source), socket.inet_aton(target)]
for number in range(int(count)):
    for a, b, x, y in ((source, target, 1024 + number, 80), (target, source, 80, 1024 + number)):
        body = struct.pack("!HHIIBBHHH", x, y, 1, 1, 0x50, 0x10, 8192, 0, 0)
        sum = checksum(b"".join(ends) + struct.pack("!BBH", 0, 6, 20) + body)
        try:
            port.send(ethernet(own, mac, 0x0800, ipv4(a, b, 6, body[:16] + struct.pack("!H", sum) + body[18:])))
        except OSError:
            pass
"""
"""Packets as of connections that are open, both ways. The host remembers each of them for five days."""


def by_the_host(guard: LanGuard) -> dict[str, object]:
    """The host forwards, such as for Docker. The VM takes it for a router."""
    guard.sync()
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0")
    sh(
        "ip netns add beyond; ip link add far1 type veth peer name b0 netns beyond; ip link set far1 up; ip -n beyond link set b0 up"
    )
    sh(
        "ip addr add 10.77.0.1/24 dev far1; ip -n beyond addr add 10.77.0.2/24 dev b0; ip -n beyond route add default via 10.77.0.1"
    )
    sh("ip neigh add 10.77.0.99 lladdr 02:00:00:00:00:63 dev far1; ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:63 dev br0")
    said: dict[str, object] = {}
    for name, target in (("back to the LAN", "192.0.2.99"), ("elsewhere", "10.77.0.99")):
        before = tracked()
        inside("vm", _FLOOD, mac_of("br0"), MAC, "192.0.2.50", target, 6000)
        said[name] = more_than(tracked() - before, (100, 900, 2000, 5000))
    sh(f"ip -n vm route add 10.77.0.0/24 via {HOST}; sleep 1.2")
    with serving("beyond"):
        said["a VM whose router the host is"] = connects("10.77.0.2", 80)
        sh(f"ip -n router route add 10.77.0.0/24 via {HOST}")
        said["another machine"] = connects("10.77.0.2", 80, "router")
    return said


def tracked() -> int:
    return int(sh("cat /proc/sys/net/netfilter/nf_conntrack_count"))


def more_than(number: int, steps: tuple[int, ...]) -> int:
    """The last of the steps that it is beyond."""
    return max((0, *(step for step in steps if number > step)))


_ASKS = """
one = socket.socket(type=socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
one.bind(("", int(sys.argv[3])))
one.sendto(b"asked", (sys.argv[1], int(sys.argv[2])))
"""
_ANSWERS = """
one = socket.socket(type=socket.SOCK_DGRAM)
one.bind(("", 123))
print(flush=True)
while 1: one.sendto(b"answer", one.recvfrom(99)[1])
"""


def by_marks(guard: LanGuard) -> dict[str, object]:
    """Another program of the host gives packets other marks, as wg-quick does for UDP."""
    port = {"tcp": socket.create_server(("", SSH)), "relay": socket.create_server((HOST, RELAY))}
    services = {number: socket.socket(type=socket.SOCK_DGRAM) for number in (53, 67)}
    for number, one in services.items():
        one.bind(("", number))
        one.settimeout(0.5)

    def heard(number: int, target: str, own: int = 0) -> bool:
        inside("vm", f"import socket\n{_ASKS}", target, number, own)
        with contextlib.suppress(TimeoutError):
            return services[number].recv(99) == b"asked"
        return False

    said: dict[str, object] = {"relay": connects(HOST, RELAY)}
    for program in ("iptables", "ip6tables"):
        sh(f"{program} -t mangle -A PREROUTING -j CONNMARK --restore-mark")
    said["udp"] = [heard(53, target) for target in (HOST, "192.0.2.255", "192.0.2.0", "255.255.255.255")]
    said["tcp"] = [connects(HOST, number) for number in (SSH, RELAY)]
    said["dhcp"] = heard(67, HOST, 68)
    with serving("vm", f"import socket\n{_ANSWERS}"):
        said["answers"] = answered_by_the_vm()
        said["drawn twice"] = guard.sync()
    said["the host to its VM"] = host_connects()
    for socket_ in (*port.values(), *services.values()):
        socket_.close()
    return said


def answered_by_the_vm() -> list[bool]:
    """From a port that programs of the host use on both ends, and to another one than the host asked from."""
    found = []
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind((HOST, 123))
        one.settimeout(0.5)
        one.sendto(b"asked", ("192.0.2.50", 123))
        found.append(one.recv(99) == b"answer")
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind((HOST, 124))
        one.settimeout(0.5)
        inside("vm", f"import socket\n{_ASKS}", HOST, 124, 125)
        try:
            found.append(one.recv(99) == b"asked")
        except TimeoutError:
            found.append(False)
    return found


_CLAIMS = """
import socket, struct, sys, time
from packets import checksum_v6, ethernet, ipv6
mac, kind, target, seconds = sys.argv[1:]
port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd))
port.bind(("v0", 0))
port.setblocking(False)
def claim(target):
    if kind == "solicit":
        source, to = "::", socket.inet_ntop(10, socket.inet_pton(10, "ff02::1:ff00:0")[:13] + target[13:])
        body = struct.pack("!BBHI", 135, 0, 0, 0) + target
    else:
        source, to = "fd00:2::50", "ff02::1" if kind == "advert" else "fd00:2::1"
        body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\\2\\1" + bytes.fromhex(mac.replace(":", ""))
    body = body[:2] + struct.pack("!H", checksum_v6(source, to, 58, body)) + body[4:]
    group = "33:33:" + ":".join(f"{b:02x}" for b in socket.inet_pton(10, to)[12:])
    port.send(ethernet(mac, host if kind == "unicast" else group, 0x86dd, ipv6(source, to, 58, body)))
host, target = target.split("=")
print(flush=True)
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    if target:
        claim(socket.inet_pton(10, target))
        time.sleep(0.02)
        continue
    try:
        frame = port.recv(2000)
    except BlockingIOError:
        time.sleep(0.001)
        continue
    if frame[54:55] == b"\\x87" and frame[22:38] == bytes(16):
        claim(frame[62:78])
"""


def by_its_next_address(guard: LanGuard) -> dict[str, object]:
    """The host takes addresses of IPv6, and the VM says that it wants or has each of them. `heard`: it waits for the host's
    question and answers at once."""
    sh("sysctl -qw net.ipv6.neigh.br0.retrans_time_ms=300 net.ipv6.conf.br0.router_solicitation_delay=0")
    mac, said = mac_of("br0"), dict[str, object]()
    parts = bytearray(bytes.fromhex(mac.replace(":", "")))
    parts[0] ^= 2
    of_mac = socket.inet_ntop(
        socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "fd00:9::")[:8] + parts[:3] + b"\xff\xfe" + parts[3:]
    )
    said["free"] = taken("fd00:2::7")
    for kind in ("solicit", "advert", "unicast"):
        with claiming(kind, f"{mac}=fd00:2::8"):
            said[f"known, {kind}"] = taken("fd00:2::8", guard)
        with claiming(kind, f"{mac}="):
            said[f"heard, {kind}"] = taken("fd00:2::1234:5678:9abc:def0")
        with claiming(kind, f"{mac}={of_mac}"):
            said[f"of its MAC, {kind}"] = taken(of_mac)
    sh("ip neigh flush dev br0; ip -n vm neigh flush dev v0")
    with serving("vm", _SERVES.replace("''", "'::'").replace("80)", "80), family=socket.AF_INET6")):
        said["the host to its VM"] = connects_from_here("fd00:2::50")
    return said


def connects_from_here(target: str) -> bool:
    try:
        socket.create_connection((target, 80), 2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def claiming(kind: str, target: str) -> Iterator[None]:
    argv = ["ip", "netns", "exec", "vm", sys.executable, "-c", f"import sys; sys.path.insert(0, {sys.path[0]!r})\n{_CLAIMS}"]
    with subprocess.Popen([*argv, MAC, kind, target, "9"], stdout=subprocess.PIPE) as guest:
        assert guest.stdout
        guest.stdout.readline()
        yield
        guest.kill()


def taken(address: str, guard: LanGuard | None = None) -> bool:
    """Whether the host takes it. `guard`: it looks at the addresses before."""
    sh(f"ip addr add {address}/64 dev br0 {'nodad' if guard else ''}")
    if guard:
        guard.sync()
        sh(f"ip addr del {address}/64 dev br0; ip addr add {address}/64 dev br0")
    found = "tentative"
    while "tentative" in found and "dadfailed" not in found:
        time.sleep(0.1)
        found = sh(f"ip -6 -o addr show dev br0 to {address}")
    sh(f"ip addr del {address}/64 dev br0")
    return "dadfailed" not in found


MODES = {"router": by_the_router, "next": by_its_next_address, "marks": by_marks, "host": by_the_host}
print(json.dumps(MODES[sys.argv[1]](make_machines())))
