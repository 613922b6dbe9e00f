"""With real programs: TAPs and addresses: what is told to the kernel and to dnsmasq."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

from nqrust.contract.names import mac_address
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


def test_a_guest_answers_for_no_neighbour_and_one_without_a_record_sends_nothing() -> None:
    """It read what the host sent to a neighbour that had just asked for its address, or that was off."""
    needs_taps()
    if LocalHost().which("nft") is None:
        pytest.skip("needs nftables")
    found = run_script("in_anothers_name.py", namespaces=("net", "mount"), seconds=120)
    claims = ["an answer", "a question", "to all", "of another kind", "another MAC inside"]
    assert found["without"] == [claims, 100, ["asks", "looks", "requests", "another MAC"], True], "the test can see the holes"
    own = ["asks", "looks", "requests"]
    assert found["drawn"] == [True, False, ""] and found["put back"] == [True, {}]
    assert found["with"] == [[], 0, own, False]
    assert found["without an address"] == ["looks", "requests"]
    changed, again, told, passing, without_nft, *then = found["without a record"]
    assert (changed, again, passing, without_nft) == (True, False, [], False) and "vm.json" in told
    assert then == ["", own]


def test_a_vm_on_a_lans_bridge_speaks_for_no_gateway_of_its_host() -> None:
    """Only that of one default route in the table main was known. The next hops of all others were open to VMs."""
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip")):
        pytest.skip("needs root, iproute2 and util-linux")
    assert run_script("gateways_of_a_lan.py", namespaces=("net", "mount"), seconds=60) == {
        "one": ["192.0.2.1"],
        "several": ["192.0.2.1", "192.0.2.3"],
        "several of IPv6": ["2001:db8::1", "fe80::3"],
        "another table": ["192.0.2.1"],
        "another table of IPv6": ["fe80::1"],
        "another network": ["192.0.2.9"],
        "halves": ["192.0.2.1"],
        "the other family": ["fe80::1"],
        "by number": ["192.0.2.7", "192.0.2.8"],
        "another card": [],
    }


def beside_a_host(mode: str) -> Any:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "nft", "iptables", "ip6tables")):
        pytest.skip("needs root, iproute2, nftables, iptables and util-linux")
    return run_script("vm_and_its_host.py", mode, namespaces=("net", "mount"), seconds=60)


def test_a_vm_on_a_lans_bridge_reaches_its_host_in_no_other_way() -> None:
    """The router of the LAN led it to every service of the host."""
    assert beside_a_host("router") == {
        "straight": [[], ["v4"]],
        "by the router": [],
        "a new address": [True, True, False],
        "drawn twice": False,
        "others": [True, True],
        "the host to its VM": True,
    }


def test_a_host_leads_few_connections_of_a_vm_on_a_lans_bridge_elsewhere() -> None:
    """Each of 6,000 was in the host's table for five days, and one VM filled it."""
    assert beside_a_host("host") == {
        "back to the LAN": 0,
        "elsewhere": 900,
        "a VM whose router the host is": True,
        "another machine": True,
    }


def test_marks_of_others_open_nothing_of_a_host_to_its_vms_on_a_lans_bridge() -> None:
    """With a VPN of wg-quick, VMs reached every UDP port of their host."""
    assert beside_a_host("marks") == {
        "relay": True,
        "udp": [False, False, False, False],
        "tcp": [False, False],
        "dhcp": True,
        "answers": [True, False],
        "drawn twice": False,
        "the host to its VM": True,
    }


def test_a_vm_on_a_lans_bridge_keeps_no_next_address_from_its_host() -> None:
    """A machine does not take an address of IPv6 that another one has or wants. The VM wanted each."""
    found = beside_a_host("next")
    assert len(found) == 11 and [name for name, taken in found.items() if not taken] == []


def test_a_guest_takes_no_part_in_a_spanning_tree_and_cuts_nobody_off() -> None:
    """One frame a second cut off the host, where the administrator's bridge has a spanning tree. Then it cut off the guest."""
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "bridge", "nft")):
        pytest.skip("needs root, iproute2, nftables and util-linux")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    assert run_script("port_in_a_spanning_tree.py", namespaces=("net", "mount"), seconds=120) == {
        "at first": True,
        "closed": False,
        "the guest's port": "3",
        "the switch": True,
        "with the guard alone": [False, "0"],
        "put back": [
            [["it could take part in the bridge's spanning tree", "frames from it reached the host past the bridge"]],
            {},
        ],
        "closed without both": True,
    }


ALL = [f"{number:02x}" for number in range(16) if number != 1]
"""The last digits of the MACs of IEEE 802.1D by which a bridge hands frames to the host. Linux drops PAUSE (01)."""
OTHERWISE = ["udp to the host", "a broadcast", "a router", "a neighbour"]


@pytest.mark.parametrize(("bridge", "macs"), [("nat", ALL[1:]), ("stp", ALL)])
def test_no_frame_of_a_guest_reaches_the_host_past_the_bridge(bridge: str, macs: list[str]) -> None:
    """It reached every UDP port, and was the host's router of IPv6. The port's mask stops it alone, and so do the host's
    refusal and the agent's rules together."""
    needs_taps()
    found = run_script("past_the_bridge.py", bridge, namespaces=("net", "mount"), seconds=120)
    assert found.pop("nothing") == dict.fromkeys(OTHERWISE, macs), "what the probes find otherwise"
    assert found.pop("refusal") == {"a broadcast": macs}
    assert found.pop("rules") == {"a router": macs, "a neighbour": macs}
    ((put_back,), again, then) = found.pop("put back")
    assert put_back == [
        "frames from it reached the host past the bridge",
        "the host answered ARP on it",
        "the host had IPv6 on it",
        "the host took packets from it",
    ]
    assert (again, then) == ({}, {})
    assert found == {"as it is": {}, "mask": {}}


def test_a_guest_whose_bridge_is_gone_reaches_nothing_of_the_host() -> None:
    """An administrator who took the bridge down left every TCP port open to guests, over IPv6."""
    needs_taps()
    found = run_script("past_the_bridge.py", "gone", namespaces=("net", "mount"), seconds=60)
    assert found["as it is"] == {}
    assert list(found["nothing"]) == [*OTHERWISE, "tcp over ipv6"], "what the probes find otherwise"
    assert list(found["refusal"]) == ["a broadcast"] and list(found["rules"]) == ["a router", "a neighbour", "tcp over ipv6"]


def needs_taps() -> None:
    host = LocalHost()
    if os.geteuid() != 0 or not all(host.which(program) for program in ("unshare", "ip", "bridge", "iptables", "ip6tables")):
        pytest.skip("needs root, iproute2, iptables and util-linux")
    if not host.exists("/dev/net/tun"):
        pytest.skip("this kernel has no TAP devices")
    if not host.exists("/proc/sys/net/ipv6"):
        pytest.skip("this kernel has no IPv6")


def left_to_the_host(kind: str) -> Any:
    needs_taps()
    if LocalHost().which("tc") is None or LocalHost().which("nft") is None:
        pytest.skip("needs tc and nftables")
    return run_script("work_for_the_host.py", kind, namespaces=("net", "mount"), seconds=90)


def test_the_host_changes_no_byte_of_a_frame_after_its_filter() -> None:
    """A guest named the place of a checksum, and so spoke in the host's name and as a router."""
    found = left_to_the_host("lan")
    assert found.pop("honest") and found.pop("lacking") == "" and found.pop("nothing") == {}
    assert found.pop("as it is") == [False, False]
    assert found.pop("left") == []
    lost, passes = [False, False], [True, True]
    around, device = "its frames could change after the rules", "ifb4c94485e0c2 did not finish its frames"
    assert found == {
        "straight on": [passes, [around], {}, lost, True],
        "no device": [lost, [around], {}, lost, True],
        "down": [lost, [around], {}, lost, True],
        "left to the device": [passes, [device], {}, lost, True],
    }, "what the upkeep puts back"


def test_a_packet_that_the_host_divides_counts_as_many() -> None:
    """In one packet behind a request of its own, a guest declined the address of a neighbour. Of DNS queries, it had 128 as one."""
    found = left_to_the_host("nat")
    if found is None:
        pytest.skip("this kernel divides no packets of UDP from TAPs")
    own = [mac_address("v"), 1]
    assert found["as it is"] == [own] and found["queries"] < 500
    assert found["straight on"] == [own, [mac_address("w"), 4]] and found["queries then"] > 4000, "what the probes find otherwise"
    assert found["put back"] == ["its frames could change after the rules"] and found["then"] == [own]
    assert found["left"] == []


def test_a_tap_without_a_header_needs_no_detour_and_gets_no_header_any_more() -> None:
    assert left_to_the_host("plain") == {"led round": False, "wrong": {}, "refused": 2, "flags": 0, "left": []}
