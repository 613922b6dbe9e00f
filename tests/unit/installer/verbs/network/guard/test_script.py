"""The script `restore` as text, and the state of a link that it puts back."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.places import TESTS
from tests.unit.installer.verbs.network.guard.sample import Site

from nqrust.host.errors import ParseError
from nqrust.host.facts.nic import PLAIN, Extras
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.network.guard.arming import WINDOW, fires_after
from nqrust.installer.verbs.network.guard.change import Address, NetworkChange, Route, Rule
from nqrust.installer.verbs.network.guard.live import live_state, parse_addresses, parse_routes, parse_rules
from nqrust.installer.verbs.network.guard.script import restore_script

GOLDEN = TESTS / "golden" / "network" / "restore.sh"


def script(change: NetworkChange, *, bridge_was_there: bool = False) -> str:
    return restore_script(change, bridge_was_there=bridge_was_there, folders=("/etc/new", "/etc/new/sub"), tidy=("tidy up",))


def test_script_is_the_expected_one() -> None:
    """NQR_UPDATE_GOLDEN=1 writes it again."""
    text = script(Site().change())
    if os.environ.get("NQR_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def body(text: str, function: str) -> list[str]:
    return [line.strip() for line in text.partition(f"\n{function}() {{\n")[2].partition("\n}\n")[0].splitlines()]


def test_words_of_a_change_are_quoted() -> None:
    change = replace(Site().change(), restore=(("sh", "-c", "echo $(reboot) 'x'"),))
    assert body(script(change), "commands") == ["limited sh -c 'echo $(reboot) '\"'\"'x'\"'\"''"]


def test_commands_that_hang_leave_time_for_the_way_back() -> None:
    """Five commands hang: the first takes all the time, the others two seconds each."""
    text = script(Site().change())
    assert "\nbudget=14\npatience=5\n" in text
    shortest = Settings.model_json_schema()["$defs"]["NetworkSettings"]["properties"]["window"]["minimum"]
    assert all(window - fires_after(window) >= 14 + 4 * 2 + 5 for window in (WINDOW, shortest))
    assert "\npatience=0\n" in script(replace(Site().change(), restore=())), "nobody else brings the addresses back"


def test_bridge_from_before_is_not_removed() -> None:
    lines = body(script(Site().change(), bridge_was_there=True), "links")
    assert not any("delete" in line for line in lines)
    assert 'ip address del 10.0.0.2/24 dev "$bridge" 2>/dev/null || :' in lines


def test_nic_that_was_in_a_bridge_goes_back_there() -> None:
    """The other direction: nqr gives the NIC back, and that fails."""
    change = Site().change()
    text = script(replace(change, live=replace(change.live, device="fcbr0", port_of="fcbr0")), bridge_was_there=True)
    lines = body(text, "links")
    assert lines[0] == '[ -e /sys/class/net/fcbr0 ] || [ -n "${1-}" ] || return 0', "its manager makes it first"
    assert lines[1] == "[ -e /sys/class/net/fcbr0 ] || try ip link add name fcbr0 address 02:00:00:00:00:01 type bridge"
    assert '[ "$(master)" = fcbr0 ] || try ip link set dev "$link" master fcbr0' in lines
    assert body(text, "check")[0] == '[ "$(master)" = fcbr0 ] || return 1'
    assert "\ndevice=fcbr0\n" in text


@pytest.mark.parametrize(
    ("lifetimes", "words"),
    [((3600, 1800), "valid_lft 3600 preferred_lft 1800"), ((3600, None), "valid_lft 3600 preferred_lft 3600"),
     ((None, 60), "valid_lft forever preferred_lft 60"), ((None, None), "")],
)  # fmt: skip
def test_learnt_address_ends_with_its_lease(lifetimes: tuple[int | None, int | None], words: str) -> None:
    """Nobody renews it if the network manager does not run. Its server may give it to another machine then."""
    change = Site().change()
    change = replace(change, live=replace(change.live, addresses=(Address("10.0.0.2/24", "10.0.0.255", *lifetimes),)))
    assert body(script(change), "by_hand")[0].endswith(f'broadcast 10.0.0.255 dev "$device" {words}'.rstrip())


def test_learnt_route_ends_with_its_advertisement() -> None:
    change = Site().change()
    learnt = Route("-6", "default", "fe80::1", metric="1024", expires=1700)
    lines = body(script(replace(change, live=replace(change.live, routes=(learnt, replace(learnt, family="-4"))))), "by_hand")
    assert [line.rpartition(" table main ")[2] for line in lines if "route" in line] == [
        "metric 1024 expires 1700",
        "metric 1024",
    ]


RARE = """[{"ifname":"eth0","addr_info":[{"family":"inet","local":"10.0.0.2","prefixlen":24,"metric":77,"noprefixroute":true,
"scope":"global","label":"eth0:1"},{"family":"inet","local":"10.0.0.3","prefixlen":32,"address":"10.9.0.1","scope":"global",
"label":"eth0"},{"family":"inet","local":"10.8.0.3","prefixlen":24,"scope":"global","label":"of-old-times"}]}]"""


def test_label_metric_and_the_network_managers_own_route_come_back() -> None:
    """NetworkManager's route to the card's network has the protocol of the kernel, which makes none with such an address."""
    addresses = parse_addresses(RARE)
    assert [one.extras for one in addresses] == [Extras(77, no_route=True, label="1"), PLAIN, PLAIN]
    said = [
        {"dst": dst, "protocol": "kernel", "scope": "link", "metric": 100} for dst in ("10.0.0.0/24", "10.9.0.1", "10.8.0.0/24")
    ]
    routes = parse_routes(json.dumps(said), "-4", addresses)
    change = Site().change()
    lines = body(script(replace(change, live=replace(change.live, addresses=addresses, routes=routes))), "by_hand")
    assert [line.partition(" || try ip -4 ")[2] for line in lines[:3]] == [
        'address replace 10.0.0.2/24 dev "$device" metric 77 label eth0:1 noprefixroute',
        'address replace 10.0.0.3 peer 10.9.0.1/32 dev "$device"',
        'address replace 10.8.0.3/24 dev "$device"',
    ]
    route = 'try ip -4 route replace 10.0.0.0/24 dev "$device" table main proto kernel metric 100 scope link'
    assert [line for line in lines if " route " in line] == [route], "the kernel makes the others"


def test_label_that_is_too_long_for_the_device_is_left_out() -> None:
    assert Extras(label="0123456789").words("eth0") == ("label", "eth0:0123456789")
    assert Extras(label="0123456789").words("enp1s0") == ()


ADDRESSES = """[{"ifname":"eth0","addr_info":[
{"family":"inet","local":"10.0.0.2","prefixlen":24,"broadcast":"10.0.0.255","scope":"global","dynamic":true,"valid_life_time":3600,"preferred_life_time":1800},
{"family":"inet6","local":"2001:db8::2","prefixlen":64,"scope":"global","mngtmpaddr":true,"valid_life_time":4294967295},
{"family":"inet6","local":"2001:db8::abcd","prefixlen":64,"scope":"global","temporary":true,"dynamic":true},
{"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]"""
ROUTES = """[{"dst":"default","gateway":"10.0.0.1","protocol":"dhcp","prefsrc":"10.0.0.2","metric":100,"flags":["onlink"],"expires":90},
{"dst":"10.0.0.0/24","protocol":"kernel","scope":"link","prefsrc":"10.0.0.2","flags":[]},
{"dst":"10.0.0.1","protocol":"dhcp","scope":"link","metric":100,"flags":[]},
{"type":"local","dst":"10.0.0.2","table":"local","protocol":"kernel","scope":"host","flags":[]},
{"dst":"default","gateway":"10.0.0.1","table":"77","protocol":"static","flags":[]}]"""
RULES = """[{"priority":0,"src":"all","table":"local"},{"priority":100,"src":"10.0.0.2","table":"77"},
{"priority":101,"src":"10.9.0.0","srclen":16,"fwmark":"0x1","table":"78"},{"priority":32766,"src":"all","table":"main"}]"""


def test_state_of_a_link_is_what_must_come_back() -> None:
    host = FakeHost.debian12()
    host.put("/sys/class/net/eth0/address", "02:00:00:00:00:01\n")
    host.put("/sys/class/net/eth0/mtu", "9000\n")
    host.on("ip", "-json", "address", "show", "dev", "eth0", answer=ADDRESSES)
    host.on("ip", "-json", "-4", "route", "show", "table", "all", "dev", "eth0", answer=ROUTES)
    host.on("ip", "-json", "-6", "route", "show", "table", "all", "dev", "eth0", answer="")
    host.on("ip", "-json", "-4", "rule", "show", answer=RULES)
    host.on("ip", "-json", "-6", "rule", "show", answer="[]")
    found = live_state(host, "eth0", "eth0")
    assert (found.mac, found.mtu, found.port_of) == ("02:00:00:00:00:01", 9000, "")
    assert found.addresses == (Address("10.0.0.2/24", "10.0.0.255", 3600, 1800), Address("2001:db8::2/64"))
    assert found.routes == (
        Route("-4", "10.0.0.1", metric="100", scope="link"),
        Route("-4", "default", "10.0.0.1", metric="100", source="10.0.0.2", onlink=True, expires=90),
        Route("-4", "default", "10.0.0.1", table="77"),
    )
    assert found.rules == (
        Rule("-4", ("priority", "100", "from", "10.0.0.2", "table", "77")),
        Rule("-4", ("priority", "101", "from", "10.9.0.0/16", "fwmark", "0x1", "table", "78")),
    )


def test_link_in_a_bridge_names_it() -> None:
    host = FakeHost.debian12()
    host.put_symlink("../fcbr0", "/sys/class/net/eth0/master")
    host.on("ip", prefix=True, answer="[]")
    assert live_state(host, "eth0", "fcbr0").port_of == "fcbr0"


@pytest.mark.parametrize("text", ["not json", '{"a": 1}'])
def test_other_output_is_refused(text: str) -> None:
    for parse in (parse_addresses, lambda text: parse_routes(text, "-4"), lambda text: parse_rules(text, "-4")):
        with pytest.raises(ParseError):
            parse(text)
