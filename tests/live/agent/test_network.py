"""With real programs: TAPs and addresses: what is told to the kernel and to dnsmasq."""

from __future__ import annotations

import os

import pytest
from tests.machine_scripts.calling import run_script

from nqrust.host.local import LocalHost


def test_a_guest_and_a_vmm_that_claim_anothers_addresses_get_nothing_of_it_and_nothing_stays() -> None:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "nsenter", "ip", "bridge")):
        pytest.skip("needs root, iproute2 and util-linux")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    assert run_script("taps_on_a_bridge.py", namespaces=("net", "mount"), seconds=60) is None


def test_a_vm_on_a_lans_bridge_sends_what_it_may_and_the_bridge_stays_as_it_was() -> None:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "nsenter", "ip", "bridge", "nft", "iptables")):
        pytest.skip("needs root, iproute2, nftables, iptables and util-linux")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    assert run_script("ports_on_a_lan.py", namespaces=("net", "mount"), seconds=120) is None


def test_a_guest_closes_its_own_port_and_not_the_hosts_card_in_a_spanning_tree() -> None:
    """One frame a second cut off the host, where the administrator's bridge has a spanning tree."""
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "bridge")):
        pytest.skip("needs root, iproute2 and util-linux")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    assert run_script("port_in_a_spanning_tree.py", namespaces=("net", "mount"), seconds=120) == {
        "at first": True,
        "closed": False,
        "the guest's port": "0",
        "put back": [[["it could take part in the bridge's spanning tree"]], {}],
        "closed without the guard": True,
    }
