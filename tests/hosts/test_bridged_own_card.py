"""Bridged mode with the host's own card: the install moves it under guard, and each fault brings the old network back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts import product
from tests.hosts.machine import Fingerprint, Machine, TestNetwork
from tests.hosts.machine.outside import outside
from tests.hosts.machine.result import Running
from tests.hosts.machine.settings import resolver
from tests.hosts.product import document, eventually, fetch, nqr
from tests.hosts.test_uplink_managers import NIC, Pair
from tests.hosts.uplinks import BASE, CASES, Case
from tests.places import SCRIPTS

pytestmark = pytest.mark.timeout(2400)

BRIDGE, WINDOW = "br0", 60
INSTALL = ("--network-mode", "bridged", "--bridge-name", BRIDGE, "--network-window", str(WINDOW), "--mode", "minimal",
           "--non-interactive")  # fmt: skip
UNINSTALL = ("--purge-data", "--drop-database", "--non-interactive")
GUARD = "/var/lib/nqrust-microvm/network-guard"
CONTENT = (
    "find /etc/systemd/network /etc/systemd/system /etc/netplan /etc/network /etc/NetworkManager -type f 2>/dev/null"
    " | sort | xargs sha256sum"
)
SAMPLE = "networkd-dhcp"


def cases() -> list[Any]:
    """Every manager, static and by DHCP. One of them runs each time."""
    return [pytest.param(case, id=case.name, marks=() if case.name == SAMPLE else pytest.mark.matrix) for case in CASES]


def of_its_own(category: str, thing: str) -> bool:
    """Notes of the host's own DHCP client, and a service that D-Bus starts and that ends when it is idle."""
    if category in ("processes", "units"):
        return "systemd-hostnamed" in thing
    return category == "files" and thing.startswith(("/var/lib/dhcp/", "/var/lib/NetworkManager/"))


@dataclass
class Lan:
    """`pair`: the host, and its DHCP server. The gateway is the testing machine. `before`: what the host must be again after the uninstall."""

    pair: Pair
    dhcp: Running
    address: str = ""
    before: Fingerprint | None = None
    files: str = ""
    network: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> Machine:
        return self.pair.host

    @property
    def peer(self) -> Machine:
        return self.pair.peer

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

    def is_back(self, since: float, tell: Callable[[str], None], what: str, *, link: str = NIC) -> None:
        """The peer gets in by itself within the window, and the link has all that it had."""
        eventually("the peer gets in", lambda: self.gets_in(), WINDOW + 30)
        seconds = time.monotonic() - since
        self.pair.await_state(link, self.network, WINDOW + 30)
        tell(f"own card, {self.pair.case.name}, {what}: the peer was back in after {seconds:.0f} s (window {WINDOW} s)")
        assert seconds < WINDOW + 5

    def gets_in(self) -> bool:
        master = self.host.run(f"readlink /sys/class/net/{NIC}/master", check=False).stdout.strip()
        return not self.host.exists(f"{GUARD}/armed") and self.opens() and (not master or master.endswith(f"/{BRIDGE}"))

    def opens(self) -> bool:
        script = f"import socket; socket.create_connection(('{self.address}', 7000), 2).close()"
        return self.peer.run(["python3", "-c", script], check=False, timeout=20).code == 0

    def is_as_before(self) -> None:
        self.pair.await_state(NIC, self.network, 60)
        assert not self.host.exists(f"/sys/class/net/{BRIDGE}")
        assert self.host.run(CONTENT).stdout == self.files


@contextmanager
def lan(case: Case) -> Iterator[Lan]:
    dns = (re.findall(r"^nameserver\s+(\S+)", resolver(), re.MULTILINE) or ["9.9.9.9"])[0]
    with (
        TestNetwork() as network,
        Machine(network=network, systemd=False, packages=(*BASE, "dnsmasq-base")) as peer,
        Machine(network=network, packages=case.packages, start=False) as host,
    ):
        made = Pair(host, peer, case, dns, network.gateway)
        peer.push(SCRIPTS / "uplink_peer.py", "/root/uplink_peer.py")
        dhcp = made.serve()
        host.run(
            f"set -eu\n{case.setup.replace('192.0.2.53', dns)}",
            env={"ADDRESS": host.address, "PEER": network.gateway, "NUMBER": f"{network.number:x}"},
        )
        host.boot()
        found = Lan(made, dhcp, made.settled())
        product.clone(host)
        made.listen()
        found.network = made.state(NIC)
        found.before, found.files = host.fingerprint(), host.run(CONTENT).stdout
        yield found


@pytest.mark.parametrize("case", cases())
def test_main_job_on_the_hosts_own_card(case: Case, tell: Callable[[str], None]) -> None:
    """Install, a VM on the LAN, a re-run, a reboot, an uninstall that nobody confirms, and one that the peer proves."""
    with lan(case) as site:
        host, pauses = site.host, dict[str, Any]()
        planned = host.run([f"{product.CLONE}/scripts/install/install.sh", *INSTALL, "--dry-run"], timeout=900)
        assert f"put {NIC} and its addresses into bridge {BRIDGE}" in planned.stdout, planned.describe()
        assert "NQR-NET-161" in planned.stdout + planned.stderr and case.manager in planned.stdout + planned.stderr
        site.is_as_before()

        with site.pair.watched(site.address, pauses):
            installed = product.bootstrap(host, *INSTALL)
        assert pauses["open"] and pauses["new"] < 5, f"{pauses} {installed.describe()}"
        assert f"{NIC} is a port of {BRIDGE}" in installed.stdout, installed.describe()
        tell(f"own card, {case.name}: install {installed.seconds:.0f} s, the peer's pauses {pauses}")
        site.pair.await_state(BRIDGE, site.network)
        assert "No change" in nqr(host, "network", "status").stdout

        vm = product.create_vm(host, "web1", address="10.77.")
        assert vm["mac"] in site.peer.read(site.pair.leases), "its address is the LAN's"
        mark = host.mark()
        again = product.bootstrap(host, *INSTALL, timeout=300)
        assert "(0 changed" in again.stdout and product.rewritten(host, mark) == [], again.describe()
        other = product.bootstrap(host, *INSTALL, "--uplink", "lo", check=False)
        assert other.code == 3 and "NQR-NET-157" in {one.code for one in product.refusal(other)}, other.describe()

        host.reboot()
        site.pair.listen()
        site.pair.await_state(BRIDGE, site.network, 60)
        eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 90)
        if document(host, "vm", "show", "web1")["state"] != "running":
            nqr(host, "vm", "start", "web1", "--wait", timeout=300)
        eventually("the VM reports", lambda: document(host, "vm", "show", "web1")["ip"] == vm["ip"], 200)

        refused = product.bootstrap(host, *UNINSTALL, check=False, env={"NQR_VERB": "uninstall"})
        assert refused.code == 1 and "NQR-NET-140" in refused.stdout + refused.stderr, refused.describe()
        site.pair.await_state(BRIDGE, site.network)
        assert "nqr network confirm" in refused.stdout, refused.describe()
        with site.pair.watched(site.address, {}):
            gone = product.bootstrap(host, *UNINSTALL, env={"NQR_VERB": "uninstall"})
        site.is_as_before()
        assert site.before is not None
        assert "\n".join(site.before.diff(host.fingerprint(), of_its_own)) == "", gone.describe()


def wrong_gateway(site: Lan, run: Running) -> None:
    """The gateway no longer answers; the peer gets in all the same."""
    bridge = site.host.network.bridge
    outside("ip", "link", "set", bridge, "arp", "off")
    assert run.wait(WINDOW * 3) in (1, 5) and "NQR-NET-140" in run.text(), run.text()
    outside("ip", "link", "set", bridge, "arp", "on")


def dead_dhcp_server(site: Lan, run: Running) -> None:
    site.dhcp.kill()
    site.peer.run("pkill dnsmasq", check=False)
    run.wait(WINDOW * 3)
    site.dhcp = site.pair.serve()


def installer_killed(site: Lan, run: Running) -> None:
    site.host.run(f"kill -KILL $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' {GUARD}/record.json)")


def power_cut(site: Lan, run: Running) -> None:
    site.host.power_cut()
    site.pair.listen()


def never_confirmed(site: Lan, run: Running) -> None:
    run.wait(WINDOW * 3)
    assert "NQR-NET-140" in run.text(), run.text()


FAULTS = [wrong_gateway, dead_dhcp_server, installer_killed, power_cut, never_confirmed]


def faults() -> list[Any]:
    return [
        pytest.param(case, fault, id=f"{case.name}-{fault.__name__}", marks=pytest.mark.matrix)
        for case in CASES
        for fault in FAULTS
        if case.dhcp or fault is not dead_dhcp_server
    ]


@pytest.mark.parametrize(("case", "fault"), faults())
def test_fault_brings_the_old_network_back(
    case: Case, fault: Callable[[Lan, Running], None], tell: Callable[[str], None]
) -> None:
    """During the install, and then during the uninstall, where the bridge is the old network."""
    with lan(case) as site:
        run = site.start("install", *INSTALL)
        since = site.until_it_waits(run)
        fault(site, run)
        site.is_back(since, tell, f"install, {fault.__name__}")
        assert not site.host.exists(f"/sys/class/net/{BRIDGE}")
        # The step starts again after a kill, too.
        with site.pair.watched(site.address, {}):
            product.bootstrap(site.host, *INSTALL)
        site.pair.await_state(BRIDGE, site.network)
        run = site.start("uninstall", *UNINSTALL)
        since = site.until_it_waits(run)
        fault(site, run)
        site.is_back(since, tell, f"uninstall, {fault.__name__}", link=BRIDGE)
        with site.pair.watched(site.address, {}):
            product.bootstrap(site.host, *UNINSTALL, env={"NQR_VERB": "uninstall"})
        site.is_as_before()
