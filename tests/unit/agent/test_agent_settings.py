from __future__ import annotations

import pytest

from nqrust.agent import settings
from nqrust.agent.errors import SettingsError


def test_an_empty_environment_gives_the_installed_layout() -> None:
    found = settings.load({})
    assert found.bind == ("0.0.0.0", 19090)
    assert found.vms_dir == "/srv/fc/vms"
    assert found.credentials_file == "/var/lib/nqrust-microvm/agent/credentials.json"
    assert found.network.gateway == "10.0.0.1"
    assert found.network.dhcp_first == "10.0.0.10"
    assert found.name


def test_another_network_brings_its_own_addresses() -> None:
    network = settings.load({"AGENT_NETWORK_CIDR": "10.9.0.0/24"}).network
    assert (network.gateway, network.dhcp_first, network.dhcp_last) == ("10.9.0.1", "10.9.0.2", "10.9.0.254")


def test_bridged_mode_has_no_addresses_and_lets_guests_see_each_other() -> None:
    network = settings.load({"AGENT_NETWORK_MODE": "bridged"}).network
    assert network.gateway == ""
    assert not network.guest_isolation


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_BIND", "19090"),
        ("AGENT_BIND", "0.0.0.0:70000"),
        ("AGENT_VMM", "xen"),
        ("FC_RUN_DIR", "srv/fc"),
        ("FC_RUN_DIR", "/srv/../etc"),
        ("FC_RUN_DIR", "/srv/fc;rm"),
        ("MANAGER_BASE", "localhost:18080"),
        ("AGENT_NETWORK_MODE", "vlan"),
        ("AGENT_NETWORK_CIDR", "10.0.0.1/24"),
        ("AGENT_NETWORK_GATEWAY", "192.168.0.1"),
        ("AGENT_GUEST_RELAY_PORT", "0"),
        ("FC_BRIDGE", "a-name-that-is-too-long"),
        ("AGENT_GUEST_ISOLATION", "maybe"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        settings.load({name: value})
    assert refused.value.code == "NQR-CFG-701"
    assert refused.value.cure
