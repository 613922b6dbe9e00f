"""The change of each network manager, from real configuration files. NQR_UPDATE_GOLDEN=1 writes the expected ones again."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.places import GOLDEN
from tests.unit.installer.uplink.cards import host, rows

from nqrust.contract.paths import Layout
from nqrust.installer.engine.step import Conflict
from nqrust.installer.fingerprint.ours import ours
from nqrust.installer.uplink import registry
from nqrust.installer.uplink.model import Refused
from nqrust.installer.uplink.networkd import first_prefix
from nqrust.installer.verbs.network import leases
from nqrust.installer.verbs.network.guard.change import NetworkChange

BRIDGE = "fcbr0"


def shown(change: NetworkChange) -> str:
    parts = []
    for file in change.files:
        parts.append(
            f"=== {file.path} {file.mode:04o}{'' if file.before is None else ' (changed)'}\n{(file.after or b'').decode()}"
        )
    for name in ("load", "restore", "again", "early"):
        parts += [f"{name}: {' '.join(argv)}" for argv in getattr(change, name)]
    return "\n".join([*parts, f"gateways: {' '.join(change.gateways)}", ""])


@pytest.mark.parametrize("name", rows())
def test_change_is_the_expected_one(name: str) -> None:
    row = rows()[name]
    machine = host(row)
    assert registry.owner(machine, registry.card(machine, row["nic"])).manager.name == row["manager"]
    text = shown(registry.change(machine, row["nic"], BRIDGE))
    golden = GOLDEN / "uplink" / f"{name}.txt"
    if os.environ.get("NQR_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert machine.mutations == [], "planning only reads"


def test_every_manager_has_a_row() -> None:
    assert {row["manager"] for row in rows().values()} == {manager.name for manager in registry.MANAGERS}


@pytest.mark.parametrize("name", rows())
def test_new_files_are_found_as_those_of_nqr(name: str) -> None:
    """A fingerprint looks for them, also where no record is left."""
    row = rows()[name]
    machine = host(row)
    made = {file.path: file.after or b"" for file in registry.change(machine, row["nic"], BRIDGE).files if file.before is None}
    for path, content in made.items():
        machine.put(path, content)
    for program in ("systemctl", "iptables-save", "ip6tables-save", "nft"):
        machine.uninstall(program)
    found = " ".join(ours(machine, Layout()))
    assert [path for path in made if path not in found and not leases.is_lease(path)] == []


@pytest.mark.parametrize("name", rows())
def test_own_files_of_the_manager_stay(name: str) -> None:
    """Only ifupdown has no drop-ins where its main file sources none: there one line comes to its end."""
    row = rows()[name]
    change = registry.change(host(row), row["nic"], BRIDGE)
    for file in change.files:
        if file.before is not None:
            assert file.path == "/etc/network/interfaces" and (file.after or b"").startswith(file.before.rstrip())
        else:
            assert b"Written by nqr" in (file.after or b"") or file.path == f"/var/lib/dhcpcd/{BRIDGE}.lease"
            assert "nqrust" in file.path or BRIDGE in file.path


def test_live_state_has_the_network_managers_own_route_to_the_cards_network() -> None:
    """The guard gives it back. Without it, the card reaches no machine of its network but over the gateway."""
    row = next(row for row in rows().values() if row["manager"] == "NetworkManager")
    routes = [f"{net} proto kernel scope link metric 100" for net in ("10.1.0.0/24", "2001:db8:1::/64", "10.2.0.0/24")]
    addresses = ["10.1.0.2/24 noprefixroute", "2001:db8:1::2/64 noprefixroute", "10.2.0.2/24"]
    live = registry.change(host({**row, "addresses": addresses, "routes": routes}), row["nic"], BRIDGE).live
    assert [one.extras.no_route for one in live.addresses] == [True, True, False]
    assert [(one.destination, one.protocol, one.metric) for one in live.routes] == [
        ("10.1.0.0/24", "kernel", "100"),
        ("2001:db8:1::/64", "kernel", "100"),
    ]


@pytest.mark.parametrize("name", rows())
def test_live_state_has_all_of_the_card(name: str) -> None:
    row = rows()[name]
    live = registry.change(host(row), row["nic"], BRIDGE).live
    wanted = [said.split()[0] for said in row["addresses"] if not {"link", "temporary"} & set(said.split())]
    assert [address.cidr for address in live.addresses] == wanted
    assert len(live.routes) == len([said for said in row["routes"] if "proto kernel" not in said])
    assert len(live.rules) == len(row.get("rules", []))
    assert (live.mac, live.mtu, live.device) == (row["mac"], row.get("mtu", 1500), row["nic"])
    assert live.dns


NETWORKD = {
    "nic": "eth0",
    "network_file": "/etc/systemd/network/eth0.network",
    "files": {"/etc/systemd/network/eth0.network": "[Network]\nDHCP=yes\n"},
}
KEYFILE = "[connection]\nid=a\ntype=ethernet\n"
NM = {"nic": "eth0", "profile": "/etc/NetworkManager/system-connections/a.nmconnection"}
IFUPDOWN = {"nic": "eth0", "ifstate": "eth0=eth0\n"}


def interfaces(text: str) -> dict[str, Any]:
    return {**IFUPDOWN, "files": {"/etc/network/interfaces": text}}


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such card": ({**NETWORKD, "missing": True}, "NQR-NET-150", "--uplink"),
    "nobody": ({"nic": "eth0"}, "NQR-NET-151", "ifupdown"),
    "NetworkManager only watches": (
        {**NM, "nm_state": "100 (connected (externally))", "files": {NM["profile"]: KEYFILE}},
        "NQR-NET-151",
        "NetworkManager",
    ),
    "two managers": ({**NETWORKD, **IFUPDOWN}, "NQR-NET-152", "/etc/systemd/network/eth0.network"),
    "wireless": ({**NETWORKD, "wireless": True}, "NQR-NET-153", "wired"),
    "port of a bridge": ({**NETWORKD, "master": "br0"}, "NQR-NET-154", "--bridge-name br0"),
    "part of a bond": ({**NETWORKD, "master": "bond0", "master_kind": "bond"}, "NQR-NET-154", "bond0 with --uplink"),
    "a bridge": ({**NETWORKD, "kind": "bridge"}, "NQR-NET-154", "--bridge-name eth0"),
    "configured as a port": (
        {**NETWORKD, "files": {"/etc/systemd/network/eth0.network": "[Network]\nBond=bond0\n"}},
        "NQR-NET-154",
        "--uplink",
    ),
    "a tunnel": ({**NETWORKD, "kind": "wireguard"}, "NQR-NET-155", "nat"),
    "no Ethernet": ({**NETWORKD, "mac": ""}, "NQR-NET-155", "nat"),
    "a bond of NetworkManager": (
        {**NM, "kind": "bond", "files": {NM["profile"]: "[connection]\ntype=bond\n"}},
        "NQR-NET-155",
        "--bridge-name",
    ),
    "networkd's file is gone": ({**NETWORKD, "files": {}}, "NQR-NET-156", "networkctl reload"),
    "a profile that is no keyfile": (
        {**NM, "profile": "/etc/sysconfig/network-scripts/ifcfg-eth0", "files": {}},
        "NQR-NET-156",
        "nmcli connection migrate",
    ),
    "no lease of networkd": ({**NETWORKD, "addresses": ["192.0.2.2/24 dynamic"]}, "NQR-NET-200", "networkctl status eth0"),
    "no lease of NetworkManager": (
        {**NM, "addresses": ["192.0.2.2/24 dynamic"], "dhcp4": "\n", "files": {NM["profile"]: KEYFILE}},
        "NQR-NET-200",
        "nmcli -f DHCP4 device show eth0",
    ),
    "a profile for each card": (
        {**NM, "devices": "ethernet:connected:eth0\nethernet:unavailable:eth1\n", "files": {NM["profile"]: KEYFILE}},
        "NQR-NET-156",
        "connection.interface-name eth0",
    ),
    "the highest priority": ({**NM, "files": {NM["profile"]: f"{KEYFILE}autoconnect-priority=999\n"}}, "NQR-NET-156", "999"),
    "mapped": (interfaces("mapping eth*\n script x\niface eth0 inet dhcp\n"), "NQR-NET-156", "--bridge-name"),
    "inherited": (interfaces("iface eth0 inet dhcp inherits x\n"), "NQR-NET-156", "--bridge-name"),
    "a bond of ifupdown": (interfaces("iface eth0 inet dhcp\n bond-slaves eth1\n"), "NQR-NET-156", "--bridge-name"),
    "no stanza": (interfaces("iface eth1 inet dhcp\n"), "NQR-NET-156", "--bridge-name"),
    "ifupdown2": ({**interfaces("iface eth0 inet dhcp\n"), "ifup": "ifupdown2:3.0.0\n"}, "NQR-NET-156", "ifupdown2"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_its_cure(name: str) -> None:
    row, code, word = REFUSALS[name]
    with pytest.raises(Refused) as refused:
        registry.change(host(row), row["nic"], BRIDGE)
    assert refused.value.code == code
    assert word in f"{refused.value.why} {refused.value.cure}"
    assert "eth0" in f"{refused.value.why} {refused.value.cure}"
    assert registry.planned(host(row), row["nic"], BRIDGE) == Conflict(code, refused.value.why, refused.value.cure)


def test_files_sort_before_the_card_s_own() -> None:
    for name in ("10-lan.network", "00-a.network", "0-x.network", "00-nqrust-.network", "eth0.network"):
        assert f"{first_prefix(name, 'eth0')}eth0.network" < name
    with pytest.raises(Refused):
        first_prefix("!.network", "eth0")


@pytest.mark.parametrize(("client", "kept"), [("duid", True), ("duid-only", False)])
def test_identity_has_the_iaid_only_where_the_client_sends_one(client: str, kept: bool) -> None:
    path = "/etc/systemd/network/eth0.network"
    files = {path: f"[Network]\nDHCP=yes\n[DHCPv4]\nClientIdentifier={client}\n"}
    row = {**NETWORKD, "files": files, "lease": "CLIENTID=ff0eb5897f00020000ab113d4b\n"}
    text = shown(registry.change(host(row), "eth0", BRIDGE))
    assert ("IAID=246778239" in text) == kept


@pytest.mark.parametrize(
    ("keyfile", "devices"),
    [
        (f"{KEYFILE}interface-name=eth0\n", "ethernet:disconnected:eth1"),
        (f"{KEYFILE}[ethernet]\nmac-address=52:54:00:00:00:01\n", "ethernet:disconnected:eth1"),
        (
            KEYFILE,
            "ethernet:connected:eth1\nethernet:unmanaged:eth2\nwifi:disconnected:wlan0\nethernet:connected (externally):veth7",
        ),
    ],
)
def test_profile_of_one_card_or_without_another_free_card_moves(keyfile: str, devices: str) -> None:
    row = {**NM, "devices": devices, "files": {NM["profile"]: keyfile}}
    assert registry.change(host(row), "eth0", BRIDGE).files
