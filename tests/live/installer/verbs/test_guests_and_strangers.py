"""What a guest of a NAT network and a machine beyond it cannot do to the host together, and that machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.boot_script import boot_script
from tests.machine_scripts.calling import run_script

from nqrust.agent.network import forwards

NEEDS = ("unshare", "ip", "iptables", "mount")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return boot_script(tmp_path, *NEEDS)


def seen(script: Path, what: str) -> Any:
    return run_script("guests_and_strangers.py", script, what, namespaces=("net", "mount"), seconds=60)


def test_a_guest_takes_no_connection_that_is_for_a_service_of_its_host(script: Path) -> None:
    """It has the host's address. A machine that it sends a packet to from the service's port would get an answer there."""
    found = seen(script, "services")
    ports = ("udp 500", "udp 51820", "tcp 19090", "tcp 50000")
    assert found["services"] == dict.fromkeys(ports, True)
    assert found["services without the ranges"] == dict.fromkeys(ports, False), "the test can see a hole"
    assert 200 <= found["of 300 to one port"] <= 240 and found["of the other guest"], "no guest has all ports"


def test_a_machine_beyond_fills_no_table_of_the_host_through_a_forward(script: Path) -> None:
    """It has any number of ports, and the VM answers. The host would remember such a connection for five days."""
    found = seen(script, "forwards")
    assert found.pop("drawn") == found.pop("put back") == [True, False] and found.pop("lacking") == "", "drawn once"
    assert forwards.AT_ONCE <= found.pop("a second") <= forwards.AT_ONCE + forwards.A_SECOND * (found.pop("seconds") + 1)
    assert found.pop("open") <= forwards.OPEN + 5
    assert found == {"without the bounds": 6000}, "the test can see a hole"


def test_a_stream_that_nobody_answers_counts_as_one_connection(script: Path) -> None:
    """The kernel calls each of its packets new."""
    assert seen(script, "streams") == {"of a guest": 2000, "through a forward": 2000}


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_the_host_is_no_router_for_strangers(script: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """nqr turns forwarding on, which holds for all interfaces. A machine beyond would fill the host's table of connections."""
    if variant == "legacy":
        if not (Path("/usr/sbin/xtables-legacy-multi").exists() and Path("/usr/sbin/xtables-nft-multi").exists()):
            pytest.skip("needs both variants of iptables")
        monkeypatch.setenv("LEGACY", "1")
    found = seen(script, "router")
    assert found.pop("at first") is False, "rules that stand are left alone"
    assert found.pop("of 200") == 0 and found.pop("remembered") < 20 and found.pop("of a guest") == 1
    assert found.pop("put back") == found.pop("put back again") == [True, False]
    assert found.pop("accepted before") == 1, "what others accept passes, such as Docker's"
    assert found.pop("accepted after") == 0 and found.pop("accepted then") == 1, "the jump goes to the end"
    assert found.pop("accepted behind a second jump") == 0 and found.pop("one again") and found.pop("accepted again") == 1
    assert found.pop("without the rule") == 200, "the test can see a hole"
    assert found == {"left": []}


def test_the_rule_comes_and_goes_with_those_who_need_forwarding(script: Path) -> None:
    found = seen(script, "steps")
    assert found.pop("left") == []
    first, both = ["NQR-FORWARD", "ACCEPT"], ["NQR-FORWARD", "ACCEPT", "NQR-ROUTED"]
    assert found == {
        "former": [True, *first], "alone": [True, *both], "others": [True, *first], "alone again": [True, *both],
        "back to others once more": first, "back to alone once more": both, "back to former": first,
        "back to nothing": ["ACCEPT"],
    }  # fmt: skip
