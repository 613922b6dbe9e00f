"""A host whose own card goes into a bridge, its LAN, and what can go wrong while a run waits for its proof."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.hosts import main_job, product, warm
from tests.hosts.machine import Fingerprint, Machine, TestNetwork
from tests.hosts.machine.outside import outside
from tests.hosts.machine.result import Running
from tests.hosts.machine.settings import resolver
from tests.hosts.product import eventually
from tests.hosts.test_uplink_managers import NIC, Pair
from tests.hosts.uplinks import BASE, Case
from tests.places import ROOT, SCRIPTS

BRIDGE, WINDOW = "br0", 60
REST = 600
"""Seconds for the rest of a run after the window: an uninstall removes packages then, on a busy machine."""
GUARD = "/var/lib/nqrust-microvm/network-guard"
CONTENT = (
    "find /etc/systemd/network /etc/systemd/system /etc/netplan /etc/network /etc/NetworkManager -type f 2>/dev/null"
    " | sort | xargs sha256sum"
)


def ways(state: dict[str, Any]) -> set[str]:
    """Addresses without their lifetimes, and the destinations, gateways and tables of routes. The guard sets these itself if a
    manager is late, as without a DHCP server or on a busy machine."""
    found = {address.partition(" ")[0] for address in state["addresses"]}
    routes = (json.loads(route) for family in ("-4", "-6") for route in state[f"routes{family}"])
    return found | {f"{one['dst']} via {one.get('gateway')} table {one.get('table')}" for one in routes}


@dataclass
class Lan:
    """`pair`: the host, and its DHCP server. The gateway is the testing machine. `before`: what the host must be again after the
    uninstall. `python`: variables of the first installs. `over_the_gateway`: whether the host's answers to the peer lead there."""

    pair: Pair
    dhcp: Running
    address: str = ""
    server: Running | None = None
    before: Fingerprint | None = None
    files: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    window: int = WINDOW
    python: dict[str, str] = field(default_factory=dict)
    over_the_gateway: bool = False

    @property
    def host(self) -> Machine:
        return self.pair.host

    @property
    def peer(self) -> Machine:
        return self.pair.peer

    def listen(self) -> None:
        self.server = self.pair.listen()

    def reboot(self) -> None:
        if self.server is not None:
            self.server.kill()  # a shutdown waits for it
        self.host.reboot()
        self.enter()
        self.listen()
        main_job.start_services(self.host)

    def enter(self) -> None:
        """Without systemd, the entrypoint brings up the network."""
        if self.pair.case.entrypoint:
            self.host.run(f"set -e\n{self.pair.case.entrypoint}", timeout=90)

    def start(self, verb: str, *arguments: str) -> Running:
        """Start the installer, as from an administrator's terminal."""
        return self.host.start([f"{product.CLONE}/scripts/install/{verb}.sh", *arguments])

    def until_it_waits(self, run: Running, timeout: float = 900) -> float:
        """Wait until the run waits for its proof. Return the moment when the guard was armed, at the earliest."""
        began = time.monotonic()
        while time.monotonic() < began + timeout and run.poll() is None:
            if self.host.exists(f"{GUARD}/armed"):
                return time.monotonic()
            time.sleep(0.2)
        raise AssertionError(f"no guard was armed: {run.text()[-4000:]}")

    def withstands(self, what: str, run: Running, fault: Fault, tell: Callable[[str], None], *, link: str) -> None:
        """A fault comes while the run waits for its proof: the peer gets in by itself within the window. One that is shorter than the
        settings allow leaves less than half a minute for the way back, which is the limit then. `link`: who has the addresses
        before the run, and all of them again afterwards."""
        limit = max(self.window, self.window // 2 + 30)
        since = self.until_it_waits(run)
        with fault(self, run):
            eventually("the peer gets in", self.gets_in, self.window + 30)
            seconds = time.monotonic() - since
            tell(f"{what} | {self.pair.case.name} | {fault.__name__} | {seconds:.0f} s of {self.window} s")
            assert seconds < limit + 5, run.text()
        run.wait(REST)
        # The card had its addresses already if the fault came when it was out of the bridge.
        eventually("the guard has done its work", lambda: not self.host.exists(f"{GUARD}/fired"), 60)
        wanted = ways(self.network)
        with suppress(AssertionError):  # the comparison below shows what is missing
            eventually("all addresses and routes are there", lambda: wanted <= ways(self.pair.state(link)), 30)
        assert wanted - ways(found := self.pair.state(link)) == set(), found
        if self.pair.case.client:
            self.renews_its_lease(self.pair.case.client)

    def renews_its_lease(self, client: str) -> None:
        """The client lives on when the guard that started it has ended. systemd stops what is left of a service."""
        guard = "systemctl is-active -q nqrust-network-guard.service nqrust-network-guard-late.service"
        eventually("the guard has ended", lambda: self.host.run(guard, check=False).code != 0, 30)
        time.sleep(2)  # systemd reads its files once more
        assert self.host.run(f"pgrep -x {client}", check=False).stdout, self.host.run("ps -eo pid,args").stdout

    def gets_in(self) -> bool:
        """A look while the guard is armed would be the proof that the run waits for."""
        master = self.host.run(f"readlink /sys/class/net/{NIC}/master", check=False).stdout.strip()
        return not self.host.exists(f"{GUARD}/armed") and self.opens() and (not master or master.endswith(f"/{BRIDGE}"))

    def opens(self) -> bool:
        script = f"import socket; socket.create_connection(('{self.address}', 7000), 2).close()"
        return self.peer.run(["python3", "-c", script], check=False, timeout=20).code == 0

    def is_as_before(self) -> None:
        self.pair.await_state(NIC, self.network, 60)
        self.has_old_files()

    def has_old_files(self) -> None:
        assert not self.host.exists(f"/sys/class/net/{BRIDGE}")
        with suppress(AssertionError):  # the comparison below shows the difference
            eventually("the guard's units are gone", lambda: self.host.run(CONTENT).stdout == self.files, 10)
        assert self.host.run(CONTENT).stdout == self.files


@contextmanager
def lan(case: Case, *, installer: bool = True, window: int = WINDOW) -> Iterator[Lan]:
    """Yield a host that runs, with its card configured. `installer`: a clone of nqr is there, and otherwise its sources."""
    dns = (re.findall(r"^nameserver\s+(\S+)", resolver(), re.MULTILINE) or ["9.9.9.9"])[0]
    with (
        TestNetwork() as network,
        Machine(network=network, systemd=False, packages=(*BASE, "dnsmasq-base")) as peer,
        Machine(suite=case.suite, systemd=not case.entrypoint, network=network, packages=case.packages, start=False) as host,
    ):
        made = Pair(host, peer, case, dns, network.gateway)
        peer.push(SCRIPTS / "uplink_peer.py", "/root/uplink_peer.py")
        dhcp = made.serve()
        host.run(
            f"set -eu\n{case.setup.replace('192.0.2.53', dns)}",
            env={"ADDRESS": host.address, "PEER": network.gateway, "NUMBER": f"{network.number:x}"},
        )
        host.boot()
        found = Lan(made, dhcp, window=window)
        found.enter()
        found.address = made.settled()
        found.over_the_gateway = " via " in host.run(f"ip route get {peer.address}").stdout
        if installer:
            product.clone(host)
            found.python = main_job.newer_python(host)
        else:
            host.push(ROOT / "src", "/root/src")
            host.push(SCRIPTS / "uplink_change.py", "/root/uplink_change.py")
        found.listen()
        found.network = made.state(NIC)
        found.before, found.files = host.fingerprint(), host.run(CONTENT).stdout
        if installer:
            warm.fill(host)
        yield found


@contextmanager
def wrong_gateway(site: Lan, run: Running) -> Iterator[None]:
    """The gateway no longer answers; the peer gets in all the same. If answers to the peer lead over the gateway, it answers again
    once the guard has fired: it is the gateway of the old network."""
    bridge = site.host.network.bridge
    outside("ip", "link", "set", bridge, "arp", "off")
    if site.over_the_gateway:
        eventually("the guard fires", lambda: not site.host.exists(f"{GUARD}/armed"), site.window)
        outside("ip", "link", "set", bridge, "arp", "on")
    yield
    assert run.wait(REST) in (1, 5) and "NQR-NET-140" in run.text(), run.text()
    outside("ip", "link", "set", bridge, "arp", "on")


@contextmanager
def dead_dhcp_server(site: Lan, run: Running) -> Iterator[None]:
    site.dhcp.kill()
    yield
    assert run.wait(REST) in (0, 1, 5), run.text()
    site.dhcp = site.pair.serve()


@contextmanager
def installer_killed(site: Lan, run: Running) -> Iterator[None]:
    site.host.run(f"kill -KILL $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' {GUARD}/record.json)")
    yield


@contextmanager
def ctrl_c(site: Lan, run: Running) -> Iterator[None]:
    """The guard does not wait for the end of its window, and the run says what becomes of the network."""
    run.signal(signal.SIGINT)
    yield
    assert run.wait(REST) == 130, run.text()
    assert f"Stopped: the old network of {NIC} comes back now." in run.text(), run.text()


@contextmanager
def power_cut(site: Lan, run: Running) -> Iterator[None]:
    site.host.power_cut()
    site.listen()
    yield


@contextmanager
def never_confirmed(site: Lan, run: Running) -> Iterator[None]:
    yield
    assert run.wait(REST) in (1, 5) and "NQR-NET-140" in run.text(), run.text()


Fault = Callable[[Lan, Running], AbstractContextManager[None]]
FAULTS: tuple[Fault, ...] = (ctrl_c, wrong_gateway, installer_killed, power_cut, never_confirmed, dead_dhcp_server)
