"""Whatever the card has, configured or given by hand: the bridge's files have it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.installer.uplink.cards import host

from nqrust.installer.uplink import registry

ADDRESSES4 = st.integers(1, 250).map(lambda n: f"10.{n}.0.{n}/{24 if n % 2 else 32}")
ADDRESSES6 = st.integers(1, 0xFFFF).map(lambda n: f"{ipaddress.IPv6Address((0x20010DB8 << 96) + (n << 64) + n)}/64")
ADDRESSES = st.lists(st.one_of(ADDRESSES4, ADDRESSES6), min_size=1, max_size=6, unique=True)
ROUTES = st.lists(st.integers(1, 250), max_size=4, unique=True)


def networkd(configured: list[str]) -> dict[str, Any]:
    lines = "".join(f"Address={one}\n" for one in configured)
    path = "/etc/systemd/network/10-lan.network"
    return {"network_file": path, "files": {path: f"[Match]\nName=eth0\n[Network]\nDNS=192.0.2.53\n{lines}"}}


def network_manager(configured: list[str]) -> dict[str, Any]:
    path = "/etc/NetworkManager/system-connections/lan.nmconnection"
    lines = ["[connection]", "type=ethernet"]
    for section, ipv6 in (("ipv4", False), ("ipv6", True)):
        lines += [f"[{section}]", "method=manual"]
        lines += [f"address{n}={one}" for n, one in enumerate((c for c in configured if (":" in c) == ipv6), 1)]
    return {"profile": path, "files": {path: "\n".join([*lines, ""])}}


def ifupdown(configured: list[str]) -> dict[str, Any]:
    stanzas = [f"iface eth0 {'inet6' if ':' in one else 'inet'} static\n    address {one}\n" for one in configured]
    text = "auto eth0\n" + "".join(stanzas or ["iface eth0 inet manual\n"])
    return {"ifstate": "eth0=eth0\n", "files": {"/etc/network/interfaces": text}}


@pytest.mark.parametrize(
    ("manager", "line"),
    [(networkd, "Address=10.3.0.9/24\nRouteMetric=50\nLabel=fcbr0:web"),
     (ifupdown, "up ip address replace 10.3.0.9/24 dev fcbr0 metric 50 label fcbr0:web\n")],
)  # fmt: skip
def test_bridge_has_label_and_metric_of_an_address_given_by_hand(manager: Any, line: str) -> None:
    said = ["10.1.0.1/24", "10.3.0.9/24 label eth0:web metric 50 noprefixroute"]
    change = registry.change(host({"nic": "eth0", "addresses": said, "routes": [], **manager(said[:1])}), "eth0", "fcbr0")
    assert line in "\n".join((f.after or b"").decode() for f in change.files if "fcbr0" in f.path)


@pytest.mark.parametrize("manager", [networkd, network_manager, ifupdown])
@given(addresses=ADDRESSES, kept=st.integers(0, 6), routes=ROUTES, mtu=st.integers(1280, 9000))
@settings(max_examples=60, deadline=None)
def test_bridge_has_all_of_the_card(manager: Any, addresses: list[str], kept: int, routes: list[int], mtu: int) -> None:
    mac = "52:54:00:0a:0b:0c"
    said = [f"172.{n}.0.0/16 via 10.1.0.{n} table {n}" for n in routes]
    row = {"nic": "eth0", "mac": mac, "mtu": mtu, "addresses": addresses, "routes": said, **manager(addresses[:kept])}
    change = registry.change(host(row), "eth0", "fcbr0")
    of_bridge = "\n".join((f.after or b"").decode() for f in change.files if "fcbr0" in f.path)
    for cidr in addresses:
        assert of_bridge.count(cidr) == 1, "once: a second one fails in some managers"
    for number in routes:
        assert f"172.{number}.0.0/16" in of_bridge and f"10.1.0.{number}" in of_bridge
    everything = "\n".join((f.after or b"").decode() for f in change.files)
    assert mac in of_bridge and str(mtu) in everything
    assert [a.cidr for a in change.live.addresses] == addresses and len(change.live.routes) == len(routes)
