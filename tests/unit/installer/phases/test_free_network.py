"""Where nobody chose the VM network and the default is in use, nqr takes a free one and stays with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit, network

from nqrust.host.facts.model import Facts, Link, Route
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.preflight.subnets import settled
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.record import remembered
from nqrust.installer.settings.sources import gather

NOBODY: frozenset[str] = frozenset()


def link(*addresses: str, name: str = "eth1") -> Facts:
    return fit(network=network(Link(name, "", True, "x", addresses=addresses)))


@pytest.mark.parametrize(
    ("facts", "cidr", "says"),
    [
        (fit(), "10.0.0.0/24", ""),
        (link("10.0.0.7/8"), "172.30.0.0/24", "eth1"),
        (link("10.0.0.7/16", "10.127.0.9/24"), "10.127.1.0/24", "eth1"),
        (link("10.0.0.7/16", "10.127.0.9/16", "172.30.0.1/16"), "192.168.0.0/24", "eth1"),
        (fit(network=network(routes=(Route("10.0.0.0/16", "wg0"),))), "10.127.0.0/24", "wg0"),
        (fit(network=network(Link("fcbr0", "bridge", True, "x", addresses=("10.0.0.1/24",)))), "10.0.0.0/24", ""),
    ],
)
def test_first_install_takes_a_free_network(facts: Facts, cidr: str, says: str) -> None:
    found, hides = settled(Settings(), facts, NOBODY, None, NOBODY)
    assert found.network.cidr == cidr and says in hides
    assert found.network.dhcp_first.startswith(cidr.rpartition(".")[0]) and found.network.dhcp_last.endswith(".250")
    assert "NQR-PRE-020" not in {f.code for f in run(found, facts, FakeHost.debian12(), Situation())}


def test_a_name_server_of_the_host_is_not_hidden() -> None:
    """AWS has it at the third address of the VPC, which may begin at 10.0.0.0."""
    facts = fit(network=replace(network(), nameservers=("10.0.0.2",)))
    found, hides = settled(Settings(), facts, NOBODY, None, NOBODY)
    assert found.network.cidr == "10.127.0.0/24" and "10.0.0.2" in hides


def test_a_network_that_somebody_chose_is_refused_with_the_offer_of_a_free_one() -> None:
    facts = link("10.0.0.7/16")
    same, hides = settled(Settings(), facts, frozenset({"network.cidr"}), None, NOBODY)
    assert same == Settings() and not hides
    (found,) = run(same, facts, FakeHost.debian12(), Situation())
    assert found.code == "NQR-PRE-020" and "--network-cidr 10.127.0.0/24" in found.cure


def test_the_network_of_an_installation_stays() -> None:
    facts = link("10.0.0.7/16")
    assert settled(Settings(), facts, NOBODY, Settings(), NOBODY) == (Settings(), "")
    chosen, _ = settled(Settings(), facts, NOBODY, None, NOBODY)
    again = gather(flags={}, environ={}, recorded=remembered(chosen))
    assert again.settings.network == chosen.network
    assert settled(again.settings, fit(), again.explicit, chosen, NOBODY) == (chosen, "")


def test_a_manager_and_a_bridged_host_have_no_such_network() -> None:
    facts = link("10.0.0.7/16")
    for settings in (Settings.model_validate({"mode": "manager"}), Settings.model_validate({"network": {"mode": "bridged"}})):
        assert settled(settings, facts, NOBODY, None, NOBODY) == (settings, "")
