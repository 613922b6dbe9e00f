"""The guarded step alone, under each network manager: whatever goes wrong in its window, the old network comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.hosts.machine.result import Running
from tests.hosts.own_card import BRIDGE, FAULTS, Lan, ctrl_c, dead_dhcp_server, installer_killed, lan, power_cut
from tests.hosts.test_uplink_managers import NIC
from tests.hosts.uplinks import CASES, DHCPCD, Case

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1500)]

WINDOW = 30
NEEDS_THE_NETWORK = """
cat >/etc/systemd/system/needs-the-network.service <<END
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
END
systemctl enable -q needs-the-network.service systemd-networkd-wait-online.service
"""


def start(site: Lan, *words: str) -> Running:
    return site.host.start(["python3", "/root/uplink_change.py", "/root/src", *words])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_guard_brings_the_old_network_back(case: Case, tell: Callable[[str], None]) -> None:
    """On the way into the bridge, and on the way back. (A signal is for the engine: tests/hosts/test_bridged_own_card.py.)"""
    faults = [fault for fault in FAULTS if fault is not ctrl_c and (case.dhcp or fault is not dead_dhcp_server)]
    with lan(case, installer=False, window=WINDOW) as site:
        for fault in faults:
            site.withstands("into the bridge", start(site, "step", NIC, BRIDGE, str(WINDOW)), fault, tell, link=NIC)
            site.has_old_files()
        site.reboot()  # what the guard set itself would count as the card's configuration
        site.pair.await_state(NIC, site.network, 60)
        with site.pair.watched(site.address, {}):
            assert (run := start(site, "step", NIC, BRIDGE, str(WINDOW))).wait(120) == 0, run.text()
        site.pair.await_state(BRIDGE, site.network)
        for fault in faults:
            site.withstands("out of the bridge", start(site, "undo"), fault, tell, link=BRIDGE)
        with site.pair.watched(site.address, {}):
            assert (run := start(site, "undo")).wait(120) == 0, run.text()
        site.is_as_before()


def test_boot_waits_for_the_old_network_alone(tell: Callable[[str], None]) -> None:
    """Newer versions of netplan name the links that a boot waits for. systemd reads this before the guard puts it back."""
    old = next(case for case in CASES if case.name == "netplan-networkd-dhcp")
    case = replace(old, name=f"{old.name}-debian-13", suite="trixie", setup=old.setup + NEEDS_THE_NETWORK)
    online = "systemctl is-active needs-the-network && systemctl show -p ExecStart systemd-networkd-wait-online"
    with lan(case, installer=False, window=WINDOW) as site:
        assert f"-i {NIC}:degraded" in site.host.run(online).stdout, "this version of netplan does"
        site.withstands("into the bridge", start(site, "step", NIC, BRIDGE, str(WINDOW)), power_cut, tell, link=NIC)
        assert f"-i {NIC}:degraded" in site.host.run(online).stdout
        with site.pair.watched(site.address, {}):
            assert (run := start(site, "step", NIC, BRIDGE, str(WINDOW))).wait(120) == 0, run.text()
        site.withstands("out of the bridge", start(site, "undo"), power_cut, tell, link=BRIDGE)
        assert f"-i {BRIDGE}:degraded" in site.host.run(online).stdout


def test_dhcpcd_keeps_address_and_lease(tell: Callable[[str], None]) -> None:
    with lan(DHCPCD, installer=False, window=WINDOW) as site:
        lease, pauses = site.pair.lease(), dict[str, Any]()
        for fault in (installer_killed, power_cut, dead_dhcp_server):
            site.withstands("into the bridge", start(site, "step", NIC, BRIDGE, str(WINDOW)), fault, tell, link=NIC)
            site.has_old_files()
        site.reboot()
        site.pair.await_state(NIC, site.network, 60)
        with site.pair.watched(site.address, pauses):
            assert (run := start(site, "step", NIC, BRIDGE, str(WINDOW))).wait(120) == 0, run.text()
        assert pauses["open"], f"{pauses} {run.text()}"
        tell(f"{DHCPCD.name}: the peer's pauses {pauses}")
        assert site.pair.lease() == lease
        assert site.pair.state(BRIDGE)["addresses"] == site.network["addresses"]
        for fault in (installer_killed, dead_dhcp_server):
            site.withstands("out of the bridge", start(site, "undo"), fault, tell, link=BRIDGE)
        with site.pair.watched(site.address, pauses):
            assert (run := start(site, "undo")).wait(120) == 0, run.text()
        site.is_as_before()
        assert site.pair.lease() == lease
        assert not site.host.exists(f"/var/lib/dhcpcd/{BRIDGE}.lease")
