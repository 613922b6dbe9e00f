"""A card's facts from captured output of ip(8)."""

from __future__ import annotations

import json

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import ParseError
from nqrust.host.facts import nic

ROUTES4 = """[{"dst":"default","gateway":"192.0.2.1","flags":[]},
{"dst":"default","gateway":"198.51.100.1","protocol":"dhcp","prefsrc":"192.0.2.2","metric":100,"flags":["onlink"]},
{"dst":"192.0.2.0/24","protocol":"kernel","scope":"link","prefsrc":"192.0.2.2","flags":[]},
{"dst":"203.0.113.0/24","via":{"family":"inet6","host":"fe80::1"},"table":"7","protocol":"static","flags":[]},
{"type":"local","dst":"192.0.2.2","table":"local","protocol":"kernel","scope":"host","prefsrc":"192.0.2.2","flags":[]},
{"type":"broadcast","dst":"192.0.2.255","table":"local","protocol":"kernel","scope":"link","flags":[]}]"""
ROUTES6 = """[{"dst":"fd00::/64","protocol":"ra","metric":1024,"flags":[],"expires":3595,"pref":"medium"},
{"dst":"default","gateway":"fe80::1","protocol":"ra","metric":1024,"flags":[],"expires":1795,"metrics":[{"mtu":1500}],"pref":"medium"},
{"type":"multicast","dst":"ff00::/8","table":"local","protocol":"kernel","metric":256,"flags":[],"pref":"medium"}]"""
LINKS = """[{},{"ifindex":4,"ifname":"eth0","flags":["BROADCAST","MULTICAST","PROMISC","UP","LOWER_UP"],"mtu":9000,"master":"bond0",
"operstate":"UP","link_type":"ether","address":"02:fc:00:00:00:01","permaddr":"02:fc:00:00:00:99","parentbus":"virtio","addr_info":[
{"family":"inet","local":"192.0.2.2","prefixlen":24,"broadcast":"192.0.2.255","scope":"global","dynamic":true,"label":"eth0",
"valid_life_time":3594,"preferred_life_time":3594},
{"family":"inet6","local":"fd00::5","prefixlen":128,"scope":"global","dynamic":true,"valid_life_time":3600},
{"family":"inet6","local":"fd00::2","prefixlen":64,"scope":"global","dynamic":true,"mngtmpaddr":true,"valid_life_time":86400},
{"family":"inet6","local":"fd00::3","prefixlen":64,"scope":"global","temporary":true,"dynamic":true,"valid_life_time":86400},
{"family":"inet6","local":"fe80::fc:ff:fe00:1","prefixlen":64,"scope":"link","valid_life_time":4294967295}]},
{"ifname":"bond0","linkinfo":{"info_kind":"bond"}},
{"ifname":"eth0.30","link":"eth0","linkinfo":{"info_kind":"vlan"}},
{"ifname":"veth1","link":"eth0","link_netnsid":3,"linkinfo":{"info_kind":"veth"}}]"""
RULES = """[{"priority":0,"src":"all","table":"local"},{"priority":500,"src":"172.20.9.9","table":"100","protocol":"static"},
{"priority":501,"src":"10.0.0.0","srclen":8,"dst":"all","iif":"eth0","fwmark":"0x1","table":"main"},
{"priority":32766,"src":"all","table":"main"},{"priority":32767,"src":"all","table":"default"}]"""


@pytest.fixture
def machine() -> FakeHost:
    host = FakeHost.debian12()
    host.put("/sys/class/net/eth0/ifindex", "4\n")
    host.put("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2\n")
    host.put("/etc/resolv.conf", "nameserver 127.0.0.53\n")
    host.on("ip", "-json", "-details", "address", "show", answer=LINKS)
    host.on("ip", "-json", "-4", "route", "show", "table", "all", "dev", "eth0", answer=ROUTES4)
    host.on("ip", "-json", "-6", "route", "show", "table", "all", "dev", "eth0", answer=ROUTES6)
    host.on("ip", "-json", "-4", "rule", "show", answer=RULES)
    host.on("ip", "-json", "-6", "rule", "show", answer="")
    return host


def probed(host: FakeHost) -> nic.Nic:
    found = nic.probe(host, "eth0")
    assert found is not None
    return found


def test_link_of_a_card(machine: FakeHost) -> None:
    found = probed(machine)
    assert (found.index, found.kind, found.mac, found.mtu, found.up, found.promiscuous) == (
        4, "physical", "02:fc:00:00:00:01", 9000, True, True,
    )  # fmt: skip
    assert (found.master, found.master_kind, found.permanent_mac) == ("bond0", "bond", "02:fc:00:00:00:99")
    assert found.accept_ra == "2" and found.ipv6_off == ""


def test_addresses_of_a_card(machine: FakeHost) -> None:
    found = probed(machine)
    assert [(a.cidr, a.dynamic, a.temporary, a.link_local, a.from_router, a.seconds) for a in found.addresses] == [
        ("192.0.2.2/24", True, False, False, False, 3594),
        ("fd00::5/128", True, False, False, False, 3600),
        ("fd00::2/64", True, False, False, True, 86400),
        ("fd00::3/64", True, True, False, True, 86400),
        ("fe80::fc:ff:fe00:1/64", False, False, True, False, None),
    ]
    assert found.dhcp


def test_other_end_of_a_point_to_point_address() -> None:
    said = {"family": "inet", "local": "192.0.2.2", "address": "198.51.100.1", "prefixlen": 32, "scope": "global"}
    (found,) = nic.parse_link({"eth0": {"ifname": "eth0", "addr_info": [said]}}, "eth0")["addresses"]
    assert (found.cidr, found.peer) == ("192.0.2.2/32", "198.51.100.1/32")
    assert found.words == ("192.0.2.2", "peer", "198.51.100.1/32")


def test_routes_of_all_tables_without_the_kernel_s_own(machine: FakeHost) -> None:
    found = probed(machine)
    assert [route.words("br0") for route in found.routes] == [
        ("-4", "default", "via", "192.0.2.1", "dev", "br0"),
        ("-4", "default", "via", "198.51.100.1", "dev", "br0", "src", "192.0.2.2", "proto", "dhcp", "metric", "100", "onlink"),
        ("-4", "192.0.2.0/24", "dev", "br0", "src", "192.0.2.2", "proto", "kernel", "scope", "link"),
        ("-4", "203.0.113.0/24", "via", "inet6", "fe80::1", "dev", "br0", "table", "7", "proto", "static"),
        ("-6", "fd00::/64", "dev", "br0", "proto", "ra", "metric", "1024"),
        ("-6", "default", "via", "fe80::1", "dev", "br0", "proto", "ra", "metric", "1024"),
    ]
    assert found.gateways == ("192.0.2.1", "198.51.100.1", "fe80::1")


def test_rules_without_the_kernel_s_own(machine: FakeHost) -> None:
    assert probed(machine).rules == (
        ("-4", "priority", "500", "from", "172.20.9.9", "protocol", "static", "table", "100"),
        ("-4", "priority", "501", "from", "10.0.0.0/8", "fwmark", "0x1", "iif", "eth0", "table", "main"),
    )


def test_name_servers_of_the_card_come_first(machine: FakeHost) -> None:
    assert probed(machine).nameservers == ("127.0.0.53",)
    machine.put("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\n")
    assert probed(machine).nameservers == ("192.0.2.53",)
    machine.put("/run/systemd/netif/links/4", "ADMIN_STATE=configured\nDNS=192.0.2.1 fd00::1\n")
    assert probed(machine).nameservers == ("192.0.2.1", "fd00::1")


def test_wireless_card_and_missing_card(machine: FakeHost) -> None:
    machine.put_directory("/sys/class/net/eth0/wireless")
    assert probed(machine).kind == "wifi"
    assert nic.probe(machine, "eth7") is None


@pytest.mark.parametrize("said", ["{", json.dumps([{"ifname": "eth1"}])])
def test_output_without_the_card_is_an_error(machine: FakeHost, said: str) -> None:
    machine.on("ip", "-json", "-details", "address", "show", answer=said)
    with pytest.raises(ParseError):
        nic.probe(machine, "eth0")
