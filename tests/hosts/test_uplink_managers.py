"""A host's own card goes into a bridge under each network manager, and back: nothing that it has is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.result import Running
from tests.hosts.uplinks import BASE, CASES, Case
from tests.places import ROOT, SCRIPTS

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(600)]

NIC, BRIDGE, PORT = "host0", "fcbr0", 7000
CONTENT = "find /etc -type f | sort | xargs sha256sum"
SERVER = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(64):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("0.0.0.0", 7000), Echo).serve_forever()
"""


def of_the_kernel(route: dict[str, Any]) -> bool:
    """Return whether the kernel made the route from a router's advertisement. It ends with the advertisement, and its metric is a
    fixed one. NetworkManager's own routes have that of the profile."""
    return "expires" in route and (route.get("protocol"), route.get("metric")) in (("ra", 1024), ("kernel", 256))


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what one of two states alone has. pytest shows long lists of routes only in part."""
    changed: dict[str, Any] = {}
    for name in wanted:
        if isinstance(wanted[name], list):
            more = [f"+ {one}" for one in found[name] if one not in wanted[name]]
            less = [f"- {one}" for one in wanted[name] if one not in found[name]]
            changed |= {name: more + less} if more or less else {}
        elif found[name] != wanted[name]:
            changed[name] = f"{found[name]} instead of {wanted[name]}"
    return changed


@dataclass(frozen=True)
class Pair:
    """`host` has the card; `peer` is its gateway and DHCP server."""

    host: Machine
    peer: Machine
    case: Case
    dns: str = "9.9.9.9"
    router: str = ""
    leases: str = "/root/leases"
    log: str = "/root/dnsmasq.log"

    def serve(self) -> Running:
        """Start the DHCP server and the router's advertisements. Without forwarding, the peer would also say that it is no router:
        whenever the host asks for its MAC, the host's default route would go until the next advertisement (RFC 4861, 7.2.5)."""
        number = self.peer.network.number
        self.peer.run(
            f"ip address add fd77:{number:x}::1/64 dev host0;"
            "cd /proc/sys/net/ipv6/conf/host0 && echo 0 >accept_dad && echo 1 >forwarding"
        )
        return self.peer.start(
            [
                "dnsmasq", "--keep-in-foreground", "--port=0", "--interface=host0", "--bind-interfaces", "--no-resolv", "--no-hosts",
                f"--dhcp-range=10.77.{number}.50,10.77.{number}.99,1h", f"--dhcp-option=option:router,{self.router or self.peer.address}",
                f"--dhcp-option=option:dns-server,{self.dns}", f"--dhcp-leasefile={self.leases}", "--log-dhcp",
                f"--dhcp-range=fd77:{number:x}::,ra-only,64,1h", "--enable-ra", "--ra-param=host0,10,1800",
                f"--log-facility={self.log}", "--user=root",
            ]
        )  # fmt: skip

    def settled(self) -> str:
        """Wait until the card has all that it gets, and return its first IPv4 address."""
        self.host.wait_for(f"ip -4 route show default | grep -q 'dev {NIC}'", timeout=40)
        self.host.wait_for(f"ip -6 address show dev {NIC} scope global | grep -q fd77", timeout=40)
        time.sleep(4)  # a manager that starts takes the router's route away; the next advertisement brings it again
        self.host.wait_for(f"ip -6 route show default | grep -q 'dev {NIC}'", timeout=40)
        time.sleep(1)
        return self.host.run(f"ip -4 -o address show dev {NIC} | head -1").stdout.split()[3].partition("/")[0]

    def listen(self) -> Running:
        """Start a server on PORT that answers with what it gets."""
        server = self.host.start(["python3", "-c", SERVER])
        self.host.wait_for(f"grep -qi ':{PORT:04x} ' /proc/net/tcp", timeout=20)
        return server

    def lease(self) -> list[list[str]]:
        """MAC, address and client id of each lease."""
        lines = (line.split() for line in self.peer.read(self.leases).splitlines())
        return [[f[1], f[2], f[4]] for f in lines if len(f) == 5 and ":" not in f[2]]

    def state(self, link: str) -> dict[str, Any]:
        """What the link has and what must be the same on the bridge. Lifetimes run, and indexes differ."""
        found: dict[str, Any] = {"rules": self._json("ip -j rule"), "rules6": self._json("ip -j -6 rule")}
        (shown,) = self._json(f"ip -j address show dev {link}")
        found["mac"], found["mtu"] = shown["address"], shown["mtu"]
        found["addresses"] = sorted(
            f"{a['local']}/{a['prefixlen']} {'dynamic' if a.get('dynamic') else 'permanent'}"
            for a in shown["addr_info"]
            if not a.get("temporary") and (self.case.link_local or a["local"][:5] != "fe80:")
        )
        for family in ("-4", "-6"):
            routes = self._json(f"ip -j {family} route show table all dev {link}")
            routes = [one for one in routes if not (self.case.kernel_routes and of_the_kernel(one))]
            for route in routes:
                for name in ("expires", "pref", "flags", "nhid"):
                    route.pop(name, None)
            found[f"routes{family}"] = sorted(
                json.dumps(route, sort_keys=True)
                for route in routes
                if route["dst"][:5] != "ff00:" and (self.case.link_local or route["dst"][:5] != "fe80:")
            )
        return found

    def _json(self, command: str) -> list[dict[str, Any]]:
        found = json.loads(self.host.run(command).stdout.strip() or "[]")
        return [one for one in found if one]

    def await_state(self, link: str, wanted: dict[str, Any], seconds: float = 30.0) -> None:
        """Wait until the link has all that it had, then compare, so that a failure shows the difference."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.host.exists(f"/sys/class/net/{link}") and self.state(link) == wanted:
                return
            time.sleep(0.3)
        assert difference(self.state(link), wanted) == {}

    @contextmanager
    def watched(self, address: str, pauses: dict[str, Any]) -> Iterator[None]:
        """Hold a connection open from the peer meanwhile."""
        self.peer.run("rm -f /root/stop")
        watcher = self.peer.start(["python3", "/root/uplink_peer.py", address, str(PORT), "/root/stop"])
        time.sleep(1.5)
        yield
        time.sleep(2)
        self.peer.run("touch /root/stop")
        watcher.wait(60)
        pauses.update(json.loads(watcher.text().strip().splitlines()[-1]))

    def change(self, *arguments: str) -> str:
        return self.host.run(["python3", "/root/uplink_change.py", "/root/src", *arguments], timeout=200).stdout


@contextmanager
def pair(case: Case) -> Iterator[Pair]:
    with (
        TestNetwork() as network,
        Machine(network=network, systemd=False, packages=(*BASE, "dnsmasq-base")) as peer,
        Machine(network=network, packages=case.packages, start=False) as host,
    ):
        made = Pair(host, peer, case)
        peer.push(SCRIPTS / "uplink_peer.py", "/root/uplink_peer.py")
        made.serve()
        host.push(ROOT / "src", "/root/src")
        host.push(SCRIPTS / "uplink_change.py", "/root/uplink_change.py")
        env = {"ADDRESS": host.address, "PEER": peer.address, "NUMBER": f"{network.number:x}"}
        host.run(f"set -eu\n{case.setup}", env=env)
        host.boot()
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_card_moves_and_comes_back(case: Case, tell: Callable[[str], None]) -> None:
    with pair(case) as made:
        host = made.host
        address = made.settled()
        before, lease = made.state(NIC), made.lease()
        assert bool(lease) == case.dhcp
        server = made.listen()
        files = host.run(CONTENT).stdout

        assert made.change("plan", NIC, BRIDGE).strip() == case.manager
        pauses: dict[str, Any] = {}
        with made.watched(address, pauses):
            said = made.change("apply")
            made.await_state(BRIDGE, before)
        tell(f"{case.name}: apply {pauses}")
        assert pauses["open"], said
        assert pauses["new"] < 5, said
        assert made.lease() == lease
        assert "DHCPRELEASE" not in made.peer.read(made.log)
        assert host.run(f"ip -4 address show dev {NIC}").stdout == ""
        assert "master fcbr0" in (shown := host.run(f"ip -d link show {NIC}").stdout) and "PROMISC" in shown
        assert "nf_call_iptables 0" in (shown := host.run(f"ip -d link show {BRIDGE}").stdout) and "stp_state 0" in shown
        case.check(host, BRIDGE)

        server.kill()  # a shutdown waits for it
        host.reboot()
        made.await_state(BRIDGE, before, seconds=60)
        assert made.lease() == lease
        case.check(host, BRIDGE)

        server = made.listen()
        pauses = {}
        with made.watched(address, pauses):
            said = made.change("restore")
            made.await_state(NIC, before)
        tell(f"{case.name}: restore {pauses}")
        assert pauses["open"] and pauses["new"] < 5, said
        assert not host.exists(f"/sys/class/net/{BRIDGE}")
        assert "PROMISC" not in host.run(f"ip -d link show {NIC}").stdout
        assert made.lease() == lease
        assert host.run(CONTENT).stdout == files
        server.kill()
        host.reboot()
        made.await_state(NIC, before, seconds=60)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_step_and_its_undo_under_guard(case: Case, tell: Callable[[str], None]) -> None:
    """A new connection from the peer proves the network, both ways. A network that nobody enters does not stay."""
    with pair(case) as made:
        host = made.host
        address = made.settled()
        before = made.state(NIC)
        made.listen()
        with made.watched(address, {}):
            made.change("step", NIC, BRIDGE)
            made.await_state(BRIDGE, before)
        started = time.monotonic()
        refused = host.run(["python3", "/root/uplink_change.py", "/root/src", "undo"], check=False, timeout=200)
        assert "NQR-NET-140" in refused.stderr, "nobody connected, so the card is in the bridge again"
        made.await_state(BRIDGE, before)
        assert case.manages(host, BRIDGE), host.run("nmcli device; nmcli connection").stdout
        tell(f"guard, {case.name}: the bridge is back {time.monotonic() - started:.0f} s after an undo that nobody confirmed")
        with made.watched(address, {}):
            assert "Reverted" in made.change("undo")
            made.await_state(NIC, before)
        assert not host.exists(f"/sys/class/net/{BRIDGE}")


def test_profile_that_names_no_card_goes_back_to_its_own() -> None:
    """NetworkManager chooses between the cards that are free. Nothing answers at the second one."""
    case = next(case for case in CASES if case.name == "networkmanager-dhcp")
    with pair(case) as made:
        host = made.host
        made.settled()
        before = made.state(NIC)
        made.change("plan", NIC, BRIDGE)
        made.change("apply")
        made.await_state(BRIDGE, before)
        host.run("ip link add eth9 type veth peer name far9 && ip link set far9 up && ip link set eth9 up")
        host.run("nmcli device set eth9 managed yes", check=False)
        host.wait_for("nmcli -g GENERAL.STATE device show eth9 | grep -qv unmanaged", timeout=20)
        said = made.change("restore")
        assert host.run(f"nmcli -g GENERAL.CONNECTION device show {NIC}").stdout.strip() == "lan", said
        host.wait_for(f"ip -6 address show dev {NIC} scope global | grep -q fd77", timeout=40)
        assert set(before["addresses"]) <= set(made.state(NIC)["addresses"]), "routes have another metric beside a second card"


def test_card_without_a_lease_is_refused() -> None:
    """networkd has forgotten the lease, and with it the identity that goes to the bridge."""
    case = next(case for case in CASES if case.name == "networkd-dhcp")
    with pair(case) as made:
        made.settled()
        made.peer.run("pkill -x dnsmasq")
        made.host.run("systemctl restart systemd-networkd")
        made.host.wait_for(f"ip -4 address show dev {NIC} | grep -q dynamic", timeout=20)
        plan = ["python3", "/root/uplink_change.py", "/root/src", "plan", NIC, BRIDGE]
        refused = made.host.run(plan, check=False)
        assert "NQR-NET-200" in refused.stderr, refused.describe()
