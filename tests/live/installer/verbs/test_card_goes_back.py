"""An uninstall and its script decide alike about the host's card, whatever happened to its bridge since."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

WAYS = ("python", "shell")
BACK = {
    "of-the-test/main.conf": "old\n",
    "dhcp/dhclient.nic.leases": 'lease {\n  interface "nic";\n  fixed-address 192.0.2.2;\n}\n',
}
STAYS = {
    "nqr's files removed": "the files of nqr are gone, so nic stays in fcbr9",
    "added file changed": "/var/lib/of-the-test/added/card.conf was changed since, so nic stays in fcbr9",
    "main file changed": "/var/lib/of-the-test/main.conf was changed since, so nic stays in fcbr9",
    "main file removed": "/var/lib/of-the-test/main.conf was changed since, so nic stays in fcbr9",
    "another's port": "tap0 is in fcbr9 too, so nic stays there",
}


def after(way: str, case: str) -> Any:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return run_script("card_goes_back.py", way, case, namespaces=("net", "mount", "pid", "fork", "kill-child"), seconds=100)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "case", ["as nqr left it", "added file removed", "card taken out", "a VM's port", "killed in the window"]
)
def test_card_has_its_old_network_again(way: str, case: str) -> None:
    found = after(way, case)
    if case == "killed in the window":  # the guard has put back the lease files of before the change, when there were none
        assert "dhcp/dhclient.fcbr9.leases" not in found["files"]
    else:
        assert found["files"] == BACK
    assert (found["bridge"], found["port"], found["folder"]) == (False, False, False), found
    assert found["addresses"] == ["192.0.2.2/24"] and found["said"].startswith("done"), found
    assert (found["guards"], found["alarm"]) == ([], 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", STAYS)
def test_bridge_that_became_anothers_stays(way: str, case: str) -> None:
    found = after(way, case)
    assert found["said"] == f"left: {STAYS[case]}"
    assert (found["bridge"], found["port"], found["addresses"]) == (True, True, []), found
    assert found["files"].get("of-the-test/main.conf") != "old\n" or case == "nqr's files removed"
    assert "dhcp/dhclient.fcbr9.leases" in found["files"], "its DHCP client goes on"


@pytest.mark.parametrize("way", WAYS)
def test_files_go_though_somebody_deleted_the_bridge(way: str) -> None:
    found = after(way, "bridge deleted")
    assert found["said"].startswith("done") and found["files"] == BACK and found["addresses"] == ["192.0.2.2/24"], found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["given back", "killed before the guard was armed"])
def test_card_that_is_not_in_the_bridge_leaves_nothing(way: str, case: str) -> None:
    """No lease, no folder, and nothing of a guard."""
    found = after(way, case)
    assert (found["guards"], found["alarm"]) == ([], 0)
    assert found["said"] == "done" and found["files"] == {"of-the-test/main.conf": "old\n"} and not found["folder"], found


@pytest.mark.parametrize("way", WAYS)
def test_kill_while_the_guard_saves_the_files_leaves_nothing(way: str) -> None:
    """Second names of the files and their copies, whatever the run came to."""
    found = after(way, "killed while the guard saves")
    assert found["kills"] > 8 and found["left"] == [], found
    assert all(said.startswith("done") for said in found["said"]), found


@pytest.mark.parametrize("way", WAYS)
def test_files_of_a_card_that_is_gone_stay(way: str) -> None:
    found = after(way, "card gone")
    assert found["said"] == "left: nic is not there any more, so the files of fcbr9 stay"
    assert found["files"]["of-the-test/main.conf"] == "new\n" and found["bridge"]


@pytest.mark.parametrize("way", WAYS)
def test_newest_lease_goes_with_the_card(way: str) -> None:
    assert "192.0.2.77" in after(way, "newer lease")["files"]["dhcp/dhclient.nic.leases"]


@pytest.mark.parametrize("way", WAYS)
def test_lease_of_dhcpcd_goes_with_the_card_as_it_is(way: str) -> None:
    files = after(way, "dhcpcd")["files"]
    assert {path: text for path, text in files.items() if "dhcpcd/" in path} == {"dhcpcd/nic.lease": "\2\0the server's answer"}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_changes_without_the_network_manager(way: str) -> None:
    found = after(way, "manager gone")
    assert "NQR-NET-170" in found["said"] or "start the network manager of no-such-manager" in found["said"], found
    assert found["port"] and found["files"]["of-the-test/main.conf"] == "new\n" and "dhcp/dhclient.fcbr9.leases" in found["files"]


def test_guard_brings_the_bridge_back_with_the_lifetimes_of_its_addresses() -> None:
    found = after("python", "manager failed")
    assert found["said"] == "NQR-NET-140" and found["port"] and found["files"]["of-the-test/main.conf"] == "new\n", found
    assert "dhcp/dhclient.fcbr9.leases" in found["files"] and "dhcp/dhclient.nic.leases" not in found["files"]
    assert re.search(r"inet 192.0.2.2/24 .*valid_lft [34]\d{3}sec preferred_lft [23]\d{3}sec", found["on_bridge"]), found


def test_script_gives_the_card_the_addresses_if_the_manager_fails() -> None:
    found = after("shell", "manager failed")
    assert found["addresses"] == ["192.0.2.2/24"] and found["lifetime"], "a lease ends, also without its client"
    assert "default via 192.0.2.1" in found["routes"] and found["said"].startswith("failed")


@pytest.mark.parametrize(("case", "address"), [("point to point", "192.0.2.2"), ("gateway on the link", "192.0.2.2/32")])
def test_script_gives_the_card_a_gateway_outside_of_its_own_network(case: str, address: str) -> None:
    found = after("shell", case)
    assert found["addresses"] == [address], found
    assert found["routes"].startswith("default via 198.51.100.1"), found


@pytest.mark.parametrize("way", WAYS)
def test_address_keeps_its_label_its_metric_and_the_route_of_its_network_manager(way: str) -> None:
    """On the bridge again by the guard, on the card by the script. NetworkManager makes the route to the card's network itself."""
    found, device = after(way, "rare parts of addresses"), "fcbr9" if way == "python" else "nic"
    four, six = (re.sub(r"\s+", " ", found["shown"][family]) for family in ("-4", "-6"))
    once = f"inet 192.0.2.2/24 metric 77 brd 192.0.2.255 scope global dynamic noprefixroute {device}:one"
    assert four.count(once) == 1, found
    assert f"inet 203.0.113.9 peer 203.0.113.1/32 metric 5 scope global {device}:two" in four, found
    assert four.count(f"192.0.2.0/24 dev {device} ") == 1 == six.count(f"2001:db8::/64 dev {device} "), found
    assert f"192.0.2.0/24 dev {device} proto kernel scope link src 192.0.2.2 metric 100" in four, found
    assert "inet6 2001:db8::2/64 metric 99 " in six and "noprefixroute" in six, found
    assert f"2001:db8::/64 dev {device} proto kernel metric 100" in six and f"default via 192.0.2.1 dev {device}" in four, found


def test_guard_without_systemd_uses_the_folder_of_the_installation() -> None:
    """supervisord reads its program at the next start of the machine. The folder is not the default one here."""
    assert after("python", "as nqr left it")["said"] == "done nqrust-network-guard.conf"
