"""The rules of a VM network in the kernel: what guests reach through them, how much one takes, and what stays."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.machine_scripts.boot_script import boot_script
from tests.machine_scripts.calling import run_script
from tests.machine_scripts.guests_that_begin import MANY

from nqrust.agent.network import fragments
from nqrust.agent.network.sources import _BEGINS_A_SECOND, _BEGINS_AT_ONCE
from nqrust.contract.names import bridge_mac

NEEDS = ("unshare", "ip", "iptables", "ip6tables", "iptables-save", "sysctl", "mount")

CLOSED = {"web": True, "metadata": False, "host": False, "Azure": False, "its name server": True}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return boot_script(tmp_path, *NEEDS)


def seen(script: Path, what: str) -> Any:
    return run_script("guests_behind_rules.py", script, what, namespaces=("net", "mount"), seconds=240)


def test_guests_reach_neither_host_nor_neighbour_nor_world_over_ipv6(script: Path) -> None:
    found = seen(script, "ipv6")
    assert found["closed"] == {"host": False, "neighbour": False, "beyond": False}
    assert found["without the rules"] == {"host": True, "neighbour": False, "beyond": True}, "the test can see a hole"


def test_the_boot_script_and_nqr_at_once_leave_one_jump_each(script: Path) -> None:
    found = run_script("rules_by_two.py", script, 12, namespaces=("net", "mount"), seconds=120)
    assert found.pop("waited") >= 1, "a lock on the script keeps it waiting"
    assert found == {"most jumps": 1, "satisfied": True}


def test_rules_that_vanish_are_put_back_and_none_stays(script: Path) -> None:
    found = seen(script, "upkeep")
    assert found.pop("MAC of the bridge") == bridge_mac("fcbr0"), "whatever that of a port is"
    assert found.pop("at first") is False, "rules that stand are left alone"
    assert found.pop("left") == [] and found.pop("disable_ipv6") == "1" and found.pop("as at first")
    assert set(map(tuple, found.values())) == {(True, False)}, found


def test_rules_stand_and_come_back_with_iptables_legacy(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path("/usr/sbin/xtables-legacy-multi").exists() and Path("/usr/sbin/xtables-nft-multi").exists()):
        pytest.skip("needs both variants of iptables")
    monkeypatch.setenv("LEGACY", "1")
    found = seen(script, "upkeep")
    assert found.pop("left") == [] and found.pop("as at first") and found.pop("at first") is False
    assert {name: said for name, said in found.items() if isinstance(said, list) and said != [True, False]} == {}
    assert seen(script, "beyond") == {
        "closed": CLOSED,
        "metadata without the rule": True,
        "Azure without the rule": True,
    }


def test_the_installers_steps_set_them_over_former_ones_and_take_all_back(script: Path) -> None:
    found = seen(script, "install")
    assert found == {
        "at first": [], "former": True, "now": True, "IPv6": True, "the script finds the same": False, "with the agent's": True,
        "left": [],
    }  # fmt: skip


def test_metadata_of_the_hosts_cloud_is_out_of_reach(script: Path) -> None:
    found = seen(script, "beyond")
    assert found == {"closed": CLOSED, "metadata without the rule": True, "Azure without the rule": True}


def test_the_gateway_leads_no_guest_to_its_neighbour(script: Path) -> None:
    found = seen(script, "gateway")
    assert found.pop("tracked") < 100, "packets for neighbours escape the limit on connections"
    assert found == {"the neighbour hears": "nothing", "the neighbour hears without the rule": "query"}


def test_nat_follows_the_default_route_to_another_uplink(script: Path) -> None:
    found = seen(script, "moved")
    assert found == {
        "first uplink": "198.51.100.2",
        "second uplink": "192.0.2.2",
        "none": "out of reach",
        "first again, second down": "198.51.100.2",
    }


def test_a_guest_that_floods_starves_neither_its_neighbour_nor_the_host(script: Path) -> None:
    found = seen(script, "flood")
    assert found["tracked"] <= 1000 + 200 * (found["seconds of it"] + 1) + 50
    assert found["neighbour reaches the web"]
    assert found["answered of the flood"] <= 200 + 50 * (found["seconds"] + 1)
    assert found["answered of the neighbour's 20"] >= 19 and found["answered after strangers"] >= 19
    assert found["strangers heard"] == 0


def test_a_guest_cannot_fill_the_hosts_table_of_neighbours(script: Path) -> None:
    """It has room for 1024 of all networks. A host that cannot enter a neighbour reaches it no more."""
    assert seen(script, "arp") == {"neighbours": 0, "the guest reaches the world": True, "without the filter": 200}


def test_only_guests_reach_what_the_host_serves_on_the_gateways_address(script: Path) -> None:
    """A machine of the LAN can send what is for that address to the host. One that asked 1,000 times a second left guests no name."""
    found, everything = seen(script, "others"), ["udp:53", "tcp:53", "tcp:19091"]
    assert found["guest0"] == everything
    assert found["web"] == found["host"] == []
    assert found["web without the rules"] == found["host without the rules"] == everything, "the test can see a hole"


def test_no_user_of_the_host_answers_guests_in_place_of_the_relay(script: Path) -> None:
    """A guest would send its token to whoever listens there."""
    assert seen(script, "owner") == {
        "without the rule": "tcp:19091", "drawn": [True, False], "lacking": "", "a user": "", "root": "tcp:19091",
        "heard without the rule": "query", "a user who calls": "", "a user with cookies": "", "the relay with cookies": "tcp:19091",
        "of the guest's ended connections wait": 0, "put back": [True, False], "a user then": "",
    }  # fmt: skip


def test_a_guest_cannot_use_up_what_is_anothers_under_its_address(script: Path) -> None:
    found = seen(script, "pretend")
    assert found.pop("drawn") == [True, False] and found.pop("lacking") == "", "drawn once"
    assert found.pop("tracked of the flood") < 50
    assert found == {
        "own": [True, True],
        "the neighbour after its address was flooded": True,
        "with a new MAC and address": False,
        "with the port unlocked": True,
        "gone": [True, False, False],
        "left": [],
    }


def test_a_guest_that_broadcasts_fills_no_table_of_the_hosts(script: Path) -> None:
    """With br_netfilter, Linux confirms the connection of a broadcast before the rules of INPUT see it."""
    found = seen(script, "broadcast")
    if "br_netfilter" in found:
        pytest.skip("this kernel has no br_netfilter")
    assert found.pop("drawn") == found.pop("put back") == [True, False] and found.pop("lacking") == "", "drawn once"
    assert found.pop("tracked without the rules") >= 1000, "the test can see a hole"
    assert found.pop("tracked") < 50
    assert found == {"left": []}


def test_a_guest_asks_for_an_address_in_no_other_name_and_not_without_end(script: Path) -> None:
    """dnsmasq gives nobody an address for ten minutes that a client declined, and its log is the host's."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("needs dnsmasq")
    found = seen(script, "dhcp")
    assert found.pop("drawn") == [True, False] and found.pop("lacking") == "", "drawn once"
    assert found.pop("answered of the flood") <= 30 + 10 * (found.pop("seconds") + 1)
    assert found.pop("the neighbour heard") == found.pop("the neighbour asked") > 0
    assert found == {
        "own": ["10.0.0.20", "10.0.0.21"],
        "in the neighbour's name": "nothing",
        "the neighbour after that": ["10.0.0.21", "10.0.0.21"],
    }


@pytest.mark.parametrize("match", ["hashlimit", "connlimit"])
def test_a_kernel_without_a_match_gets_the_other_rules(script: Path, tmp_path: Path, match: str) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    restore = shims / "iptables-restore"
    restore.write_text(f"#!/bin/sh\nrules=$(cat)\ncase $rules in *'-m {match}'*) exit 1 ;; esac\n"
                       f"printf '%s\\n' \"$rules\" | {shutil.which('iptables-restore')} \"$@\"\n")  # fmt: skip
    restore.chmod(0o755)
    known = tmp_path / "matches"
    known.write_text("conntrack\n")
    text = re.sub("PATH=", f"PATH={shims}:", script.read_text(), count=1).replace("/proc/net/ip_tables_matches", str(known))
    script.write_text(text)
    found = seen(script, "beyond")
    assert found["closed"] == CLOSED
    kept = seen(script, "upkeep")
    assert kept["at first"] is False and kept["a chain flushed"] == [True, False]


def test_guests_begin_few_connections_to_the_platform_on_another_machine(script: Path) -> None:
    found = seen(script, "begin")
    assert found.pop("drawn") == [True, False] and found.pop("lacking") == ""
    assert found.pop("to another port") == [MANY, MANY]
    first, second = found.pop("to the platform")
    assert _BEGINS_AT_ONCE <= first <= _BEGINS_AT_ONCE + 2 and second <= 3 * _BEGINS_A_SECOND, "all guests together"


def test_guests_leave_the_host_room_for_fragments(script: Path) -> None:
    """A packet in fragments waits there until all have come. When the room is full, nobody's packet comes together."""
    if shutil.which("nft") is None:
        pytest.skip("needs nft")
    found = seen(script, "fragments")
    assert found.pop("without the rules") == [False, False], "one guest fills it"
    assert found.pop("drawn") == [True, False] and found.pop("lacking") == ""
    assert found.pop("of long and tagged ones") == 0
    most = fragments.A_SECOND * (found.pop("seconds of one") + 2)
    assert fragments.A_SECOND <= found["of one"] <= fragments.AT_ONCE + most
    assert fragments.A_SECOND <= found.pop("of IPv6") <= fragments.AT_ONCE + fragments.A_SECOND
    of_all = fragments.of_all(FakeHost.debian12())
    most = of_all.at_once + of_all.a_second * (found.pop("seconds") + 1)
    assert found.pop("of one") < found["of all"] < most and found.pop("memory") < most * fragments._MEMORY
    found.pop("of all")
    assert found == {
        "then": [True, True], "beside one": [True, True], "from beyond beside all": True,
        "put back": [True, False], "without VMs": False, "left": False,
    }  # fmt: skip


def test_many_guests_that_ask_leave_another_its_names(script: Path) -> None:
    """They ask for names of a server that does not answer: dnsmasq waits 10 seconds for each."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("needs dnsmasq")
    found = seen(script, "names")
    assert found.pop("without the rule") < 8, "the test can see a hole"
    assert found == {"alone": 8, "over TCP": True, "beside many": 8, "over TCP without it": False}
