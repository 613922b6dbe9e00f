"""The guard of the network on real hosts: a NIC moves into a bridge, and comes back unless the move is proven.

A peer on the same bridge of the testing machine tells when it reaches the host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts.machine import Machine, TestNetwork
from tests.hosts.machine.result import Running
from tests.places import SCRIPTS

pytestmark = pytest.mark.timeout(900)

WINDOW = 28
PORT = 7007
SOURCES = "/root/guard"
ECHO = f"""
import socket, threading
def serve(connection):
    try:
        while data := connection.recv(100):
            connection.sendall(data)
    except OSError:
        pass
server = socket.create_server(("", {PORT}))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
ECHO_UNIT = """[Unit]
After=network.target
[Service]
ExecStart=/usr/bin/python3 /root/echo.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
GUARD = "/var/lib/nqrust-microvm/network-guard"
NETWORK = "/etc/systemd/network/10-host0.network"


@dataclass
class Site:
    host: Machine
    peer: Machine
    tell: Callable[[str], None]
    before: tuple[str, ...] = ()
    held: list[Running] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "systemd" if self.host.systemd else "no systemd"

    def script(self, *words: object) -> list[str]:
        return ["env", f"PYTHONPATH={SOURCES}/src", "python3", f"{SOURCES}/guarded_change.py", *map(str, words)]

    def make(self, variant: str, *, until: str = "Waiting") -> Running:
        """Start the change, and return when it waits for its proof."""
        run = self.host.start(self.script("make", variant, WINDOW, self.host.address, self.host.network.gateway))
        wait_until(lambda: until in run.text() or run.poll() is not None, 30)
        journal = "journalctl -u systemd-networkd -u 'nqrust-network-guard*' -n 30 --no-pager -o cat"
        assert until in run.text(), run.text() + (self.host.run(journal, check=False).stdout if self.host.systemd else "")
        return run

    def hold(self, again: str) -> Running:
        argv = ["python3", "/root/held_connection.py", self.host.address, str(PORT), again]
        run = self.peer.start(argv)
        self.held.append(run)
        wait_until(lambda: len(run.text().split()) > 3, 30)
        return run

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.host.run(self.script("status")).stdout))

    def network(self) -> tuple[str, ...]:
        """The host's network as it can be compared: links, addresses, routes, and the file with all that belongs to it."""
        shown = self.host.run(
            "ls /sys/class/net; ip -o -4 address show | sed 's/ \\+/ /g'; ip -4 route; readlink /sys/class/net/host0/master;"
            "ls -A /etc/systemd/network /etc/systemd/system/*.wants; ls -d /etc/test-network;"
            f"stat -c '%a %u %g %i %y' {NETWORK}; cat {NETWORK};"
            f'python3 -c \'import os; print(os.listxattr("{NETWORK}"), os.getxattr("{NETWORK}", "user.kept"))\'',
            check=False,
        )
        return tuple(shown.stdout.splitlines())

    def seconds_until_back(self, held: Running, since: float) -> float:
        """Seconds from `since` to the first echo after the longest silence since then."""

        def echoes() -> list[float]:
            return [since, *(float(word) for word in held.text().split() if float(word) > since)]

        wait_until(lambda: echoes()[-1] > time.monotonic() - 1, WINDOW)
        gaps = [(later - earlier, later) for earlier, later in zip(echoes(), echoes()[1:], strict=False)]
        return max(gaps)[1] - since if max(gaps)[0] > 1 else 0.0

    def is_as_before(self) -> None:
        wait_until(lambda: self.network() == self.before, 20)
        assert self.network() == self.before
        left = self.host.run(
            f"ls -A /run/systemd/system /etc/systemd/system {GUARD} | grep -e '^nqrust-network-guard' -e '^before$'", check=False
        )
        assert left.stdout == "", "no unit and no saved file is left"
        assert self.host.run("ls -A /etc/systemd/network | grep nqr-old", check=False).stdout == ""

    def figure(self, case: str, seconds: float, what: str) -> None:
        self.tell(f"network guard, {self.kind}, {case}: {what} {seconds:.1f} s (window {WINDOW} s)")


def wait_until(true: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shared() -> Iterator[TestNetwork]:
    with TestNetwork() as network:
        yield network


@pytest.fixture(scope="module")
def peer(shared: TestNetwork) -> Iterator[Machine]:
    with Machine(network=shared, systemd=False) as machine:
        machine.push(SCRIPTS / "held_connection.py", "/root/held_connection.py")
        yield machine


@pytest.fixture(scope="module", params=["systemd", pytest.param("plain", marks=pytest.mark.matrix)])
def machine(request: pytest.FixtureRequest, shared: TestNetwork) -> Iterator[Machine]:
    with Machine(network=shared, systemd=request.param == "systemd") as host:
        host.clone_repository(SOURCES)
        host.push(SCRIPTS / "guarded_change.py", f"{SOURCES}/guarded_change.py")
        host.write("/root/echo.py", ECHO)
        host.write(NETWORK, f"[Match]\nName=host0\n[Network]\nAddress={host.address}/24\nGateway={shared.gateway}\n", mode=0o640)
        host.run(f'chgrp systemd-network {NETWORK}; python3 -c \'import os; os.setxattr("{NETWORK}", "user.kept", b"yes")\'')
        if host.systemd:
            host.write("/etc/systemd/system/echo.service", ECHO_UNIT)
            host.run("systemctl mask test-host-network; systemctl enable -q systemd-networkd echo")
            host.reboot()
            host.wait_for("ip -4 route show default | grep -q via", timeout=30)
        yield host


@pytest.fixture
def site(machine: Machine, peer: Machine, tell: Callable[[str], None]) -> Iterator[Site]:
    if not machine.systemd:
        machine.start(["python3", "/root/echo.py"])
    if machine.systemd:
        machine.run("/usr/lib/systemd/systemd-networkd-wait-online -i host0 --timeout 30")
    found = Site(machine, peer, tell)
    found.before = found.network()
    assert any(machine.address in line for line in found.before)
    yield found
    for run in found.held:
        run.kill()


def test_wrong_gateway_brings_the_old_network_back(site: Site) -> None:
    started = time.monotonic()
    run = site.make("gateway")
    assert "gateway" in run.text() and "answers" in run.text()
    held = site.hold("again")  # a machine that gets in does not make up for the gateway
    assert run.wait(WINDOW * 2) == 5 and "NQR-NET-140" in run.text(), run.text()
    site.figure("wrong gateway", time.monotonic() - started, "the old network was back after")
    assert time.monotonic() - started < WINDOW
    site.is_as_before()
    assert site.seconds_until_back(held, started) < WINDOW


def test_killed_run_brings_the_old_network_back(site: Site) -> None:
    held = site.hold("again")
    started = time.monotonic()
    run = site.make("lockout")
    pid = run.text().split()[1]
    site.host.run(f"kill -KILL {pid}")
    status = site.status()
    assert (status["state"], status["waits"]) == ("armed", False)
    refused = site.host.run(site.script("confirm"), check=False)
    assert "NQR-NET-143" in refused.stdout, "nobody would take this network over"
    seconds = _back(site, held, started)
    site.figure("killed, locked out", seconds, "the peer was back after")
    assert 1 < seconds < WINDOW
    site.is_as_before()


def test_power_cut_brings_the_old_network_back(site: Site) -> None:
    if not site.host.systemd:
        pytest.skip("a test host without systemd gets its address from its fixture at each start")
    held = site.hold("again")
    site.make("lockout")
    site.host.power_cut(boot=False)
    started = time.monotonic()
    site.host.boot()
    seconds = _back(site, held, started)
    site.figure("power cut, locked out", seconds, "the peer was back after")
    assert seconds < WINDOW
    site.is_as_before()


def test_start_without_systemd_brings_the_files_back(site: Site) -> None:
    if site.host.systemd:
        pytest.skip("systemd has units for a boot")
    run = site.make("lockout")
    assert site.host.run(["sh", f"{GUARD}/restore", "start"]).stdout == "", "its own process guards this start of the machine"
    site.host.power_cut()
    assert run.wait(20) != 0 and site.host.exists("/etc/test-network")
    site.host.run(["sh", f"{GUARD}/restore", "start"], timeout=60)
    site.is_as_before()


def test_without_a_confirmation_the_old_network_comes_back(site: Site) -> None:
    held = site.hold("never")
    started = time.monotonic()
    run = site.make("good", until="new connection")
    assert run.wait(WINDOW * 2) == 5 and "NQR-NET-140" in run.text(), run.text()
    seconds = time.monotonic() - started
    site.figure("no confirmation", seconds, "the old network was back after")
    assert seconds < WINDOW
    site.is_as_before()
    assert site.seconds_until_back(held, started) < WINDOW, "the connection from before is no proof, and it lives"


def test_confirmation_keeps_the_new_network(site: Site) -> None:
    held = site.hold("never")
    started = time.monotonic()
    run = site.make("good", until="new connection")
    confirmed = site.host.run(site.script("confirm"), check=False)
    assert confirmed.stdout.endswith("confirmed\n"), confirmed.stdout + run.text()
    assert run.wait(10) == 0 and "proven confirmed" in run.text()
    _stays(site)
    site.figure("confirmed", site.seconds_until_back(held, started), "the peer's connection was silent until")
    _give_back(site)


def test_fresh_connection_keeps_the_new_network(site: Site) -> None:
    run = site.make("good", until="new connection")
    site.hold("again")
    assert run.wait(10) == 0 and f"proven {site.peer.address}" in run.text(), run.text()
    _stays(site)
    _give_back(site)


def _back(site: Site, held: Running, started: float) -> float:
    """Wait until the host has its old network and the peer reaches it; return the seconds since `started`."""
    wait_until(lambda: site.host.run("readlink /sys/class/net/host0/master", check=False).stdout == "", WINDOW * 2)
    wait_until(lambda: float(held.text().split()[-1]) > time.monotonic() - 0.5, WINDOW)
    return site.seconds_until_back(held, started)


def _stays(site: Site) -> None:
    """Wait longer than the window: the bridge is there, and nothing of the guard is."""
    time.sleep(WINDOW)
    assert site.host.run("readlink /sys/class/net/host0/master").stdout.strip().endswith("/fcbr0")
    assert site.host.run(f"ls {GUARD} /run/systemd/system/nqrust-network-guard.timer", check=False).stdout == ""
    assert site.host.run("ls /etc/systemd/system/*.wants | grep guard", check=False).stdout == ""


def _give_back(site: Site) -> None:
    """By hand, for the next test."""
    if site.host.systemd:
        site.host.write(
            NETWORK,
            f"[Match]\nName=host0\n[Network]\nAddress={site.host.address}/24\nGateway={site.host.network.gateway}\n",
            mode=0o640, owner="root:systemd-network",
        )  # fmt: skip
        site.host.run(f'python3 -c \'import os; os.setxattr("{NETWORK}", "user.kept", b"yes")\'')
    site.host.run("rm -f /etc/systemd/network/10-fcbr0.* /etc/test-network; ip link set host0 nomaster; ip link delete fcbr0")
    if site.host.systemd:
        site.host.run("systemctl restart systemd-networkd")
        return
    site.host.run(
        f"ip address replace {site.host.address}/24 dev host0; ip route replace default via {site.host.network.gateway}"
    )
