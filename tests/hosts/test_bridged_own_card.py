"""Bridged mode with the host's own card: the install moves it under guard, and each fault brings the old network back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.hosts import product
from tests.hosts.bases.trixie import LAST_BOOT
from tests.hosts.own_card import BRIDGE, FAULTS, WINDOW, Fault, installer_killed, lan
from tests.hosts.product import document, eventually, fetch, nqr
from tests.hosts.test_uplink_managers import NIC
from tests.hosts.uplinks import CASES, ELSEWHERE, Case

pytestmark = pytest.mark.timeout(2400)

INSTALL = ("--network-mode", "bridged", "--bridge-name", BRIDGE, "--network-window", str(WINDOW), "--mode", "minimal",
           "--non-interactive")  # fmt: skip
UNINSTALL = ("--purge-data", "--drop-database", "--non-interactive")
SAMPLE = "networkd-dhcp"


def cases() -> list[Any]:
    """Every manager, static and by DHCP, and other kinds of hosts. One of them runs each time."""
    every = (*CASES, *ELSEWHERE)
    return [pytest.param(case, id=case.name, marks=() if case.name == SAMPLE else pytest.mark.matrix) for case in every]


def of_its_own(category: str, thing: str) -> bool:
    """Notes of the host's own DHCP client, services that D-Bus starts and that end when they are idle, and the last boot."""
    if re.search(LAST_BOOT, f"{category} {thing}"):
        return True
    if category in ("processes", "units"):
        return any(name in thing for name in ("systemd-hostnamed", "nm-dispatcher", "NetworkManager-dispatcher"))
    return category == "files" and thing.startswith(("/var/lib/dhcp/", "/var/lib/NetworkManager/"))


@pytest.mark.parametrize("case", cases())
def test_main_job_on_the_hosts_own_card(case: Case, tell: Callable[[str], None]) -> None:
    """Install, a VM on the LAN, a re-run, a reboot, an uninstall that nobody confirms, and one that the peer proves."""
    with lan(case) as site:
        host, pauses = site.host, dict[str, Any]()
        planned = host.run([f"{product.CLONE}/scripts/install/install.sh", *INSTALL, "--dry-run"], timeout=900, env=site.python)
        assert f"put {NIC} and its addresses into bridge {BRIDGE}" in planned.stdout, planned.describe()
        assert "NQR-NET-161" in planned.stdout + planned.stderr and case.manager in planned.stdout + planned.stderr
        site.is_as_before()

        with site.pair.watched(site.address, pauses):
            installed = product.bootstrap(host, *INSTALL, env=site.python)
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

        site.reboot()
        site.pair.await_state(BRIDGE, site.network, 60)
        eventually("the manager answers", lambda: fetch(host, "http://127.0.0.1:18080/health")[0] == 200, 90)
        if document(host, "vm", "show", "web1")["state"] != "running":
            nqr(host, "vm", "start", "web1", "--wait", timeout=300)
        eventually("the VM reports", lambda: document(host, "vm", "show", "web1")["ip"] == vm["ip"], 200)

        refused = product.bootstrap(host, *UNINSTALL, check=False, env={"NQR_VERB": "uninstall"})
        assert refused.code == 1 and "NQR-NET-140" in refused.stdout + refused.stderr, refused.describe()
        site.pair.await_state(BRIDGE, site.network)
        assert case.manages(host, BRIDGE), host.run("nmcli device; nmcli connection").stdout
        assert "nqr network confirm" in refused.stdout, refused.describe()
        with site.pair.watched(site.address, {}):
            gone = product.bootstrap(host, *UNINSTALL, env={"NQR_VERB": "uninstall"})
        site.is_as_before()
        assert site.before is not None
        assert "\n".join(site.before.diff(host.fingerprint(), of_its_own)) == "", gone.describe()


def faults() -> list[Any]:
    """Every fault under every manager. One of them runs each time."""
    found = [pytest.param(case, FAULTS, id=f"{case.name}-every", marks=pytest.mark.matrix) for case in CASES]
    sample = next(case for case in CASES if case.name == SAMPLE)
    return [pytest.param(sample, (installer_killed,), id=f"{SAMPLE}-one"), *found]


@pytest.mark.parametrize(("case", "faults"), faults())
def test_fault_brings_the_old_network_back(case: Case, faults: tuple[Fault, ...], tell: Callable[[str], None]) -> None:
    """During the install, and then during the uninstall, where the bridge is the old network. An uninstall removes the rest at
    once, so later ones are about the card alone."""
    with lan(case) as site:
        for fault in faults:
            # What a signal stops goes back. The rest stays, so that the next run comes to the card sooner.
            run = site.start("install", *INSTALL, *(("--on-failure", "keep") if fault is not faults[0] else ()))
            site.withstands("install", run, fault, tell, link=NIC)
            assert not site.host.exists(f"/sys/class/net/{BRIDGE}")
        if case.dhcp and len(faults) > 1:  # a DHCP client can ask again after minutes, and nqr refuses a card without a lease
            site.reboot()
            site.pair.await_state(NIC, site.network, 60)
        # The step starts again after a kill, too.
        with site.pair.watched(site.address, {}):
            product.bootstrap(site.host, *INSTALL)
        site.pair.await_state(BRIDGE, site.network)
        for fault in faults:
            site.withstands("uninstall", site.start("uninstall", *UNINSTALL), fault, tell, link=BRIDGE)
        with site.pair.watched(site.address, {}):
            product.bootstrap(site.host, *UNINSTALL, env={"NQR_VERB": "uninstall"})
        site.is_as_before()
