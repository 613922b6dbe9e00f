"""Sysctls, the bridge and the firewall, with captured answers of machines."""

from __future__ import annotations

import json
import shlex

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted, round_trip

from nqrust.contract.names import bridge_mac
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Satisfied
from nqrust.installer.verbs.firewall.rules import FirewallSpec, IptablesRules, parse_rules
from nqrust.installer.verbs.firewall.vm_network import vm_network, vm_network_ipv6
from nqrust.installer.verbs.kernel.sysctl import Sysctl
from nqrust.installer.verbs.network.link import Bridge


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    host.on("tee", prefix=True, changes=True, answer=lambda h, c: h.put(c.argv[1], c.input))
    return host


# --- sysctls


def test_sysctl_round_trips(host: FakeHost) -> None:
    host.put("/proc/sys/net/ipv4/ip_forward", "0\n")
    step = Sysctl("net.ipv4.ip_forward", "1")
    assert planned(host, step) == ("net.ipv4.ip_forward: 0 -> 1",)
    _, records = applied(host, step)
    assert host.read_text("/proc/sys/net/ipv4/ip_forward") == "1\n"
    reverted(host, records)
    assert host.read_text("/proc/sys/net/ipv4/ip_forward") == "0\n"


@pytest.mark.parametrize("redirects", ["0", "1"])
def test_what_the_kernel_resets_with_forwarding_is_given_back(host: FakeHost, redirects: str) -> None:
    """ufw(8) refuses redirects on its hosts. If nqr turned forwarding off again, the kernel would accept them."""
    forward, others = "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/accept_redirects"

    def tee(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        if cmd.argv[1] == forward and cmd.input.decode() != host.read_text(forward):
            host.put(others, "0\n" if cmd.input == b"1\n" else "1\n")
        host.put(cmd.argv[1], cmd.input)

    host.on("tee", prefix=True, changes=True, answer=tee)
    host.put(forward, "0\n")
    host.put(others, f"{redirects}\n")
    _, records = applied(host, Sysctl("net.ipv4.ip_forward", "1"))
    assert host.read_text(others) == "0\n"
    reverted(host, records)
    assert (host.read_text(forward), host.read_text(others)) == ("0\n", f"{redirects}\n")


def test_sysctl_that_is_right_or_missing_needs_no_change(host: FakeHost) -> None:
    host.put("/proc/sys/vm/max_map_count", "262144\n")
    host.put("/proc/sys/net/ipv4/conf/eth0.5/forwarding", "1\n")
    assert isinstance(Sysctl("vm.max_map_count", "65530", at_least=True).inspect(host), Satisfied)
    assert isinstance(Sysctl("net.ipv4.conf.eth0/5.forwarding", "1").inspect(host), Satisfied)
    assert isinstance(Sysctl("net.bridge.bridge-nf-call-iptables", "0", optional=True).inspect(host), Satisfied)
    with pytest.raises(StepFailed, match="NQR-NET-101"):
        Sysctl("net.bridge.none", "0").apply(host)


# --- the bridge


def put_link(host: FakeHost, name: str, *, bridge: bool, up: bool, alias: str = "", address: str = "") -> None:
    base = f"/sys/class/net/{name}"
    host.put(f"{base}/flags", "0x1003\n" if up else "0x1002\n")
    host.put(f"{base}/ifalias", f"{alias}\n" if alias else "")
    host.put(f"{base}/address", f"{bridge_mac(name)}\n" if alias else "62:00:00:00:00:01\n")
    if bridge:
        host.put_directory(f"{base}/bridge")
    host.memory.setdefault("addresses", {})[name] = [address] if address else []


@pytest.fixture
def net(host: FakeHost) -> FakeHost:
    """ip(8) in memory: links with alias, addresses and flags."""
    host.put_directory("/sys/class/net")
    put_link(host, "eth0", bridge=False, up=True, address="192.168.1.5/24")

    def show(host: FakeHost, cmd: Command) -> str:
        links = host.memory["addresses"]
        split = {n: [a.split("/") for a in found] for n, found in links.items()}
        return json.dumps([{"ifname": n, "addr_info": [{"local": a, "prefixlen": int(p)} for a, p in split[n]]} for n in links])

    def batch(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        for words in map(str.split, cmd.input.decode().splitlines()):
            if words[:2] == ["link", "add"]:
                put_link(host, words[3], bridge=True, up=False)
                host.put(f"/sys/class/net/{words[3]}/address", f"{words[5]}\n")
            elif words[:2] == ["link", "set"]:
                host.put(f"/sys/class/net/{words[3]}/{'ifalias' if words[4] == 'alias' else words[4]}", words[5] + "\n")
            elif words[:2] == ["address", "replace"]:
                host.memory["addresses"][words[-1]] = [words[2]]

    def delete(host: FakeHost, cmd: Command) -> None:
        host.tree.detach(f"/sys/class/net/{cmd.argv[3]}")
        del host.memory["addresses"][cmd.argv[3]]

    host.on("ip", "-j", "-4", "address", "show", answer=show)
    host.on("ip", "-batch", "-", changes=True, answer=batch)
    host.on("ip", "link", "delete", prefix=True, changes=True, answer=delete)
    host.on("ip", "link", "set", "dev", "fcbr0", "up", changes=True,
            answer=lambda h, c: h.put("/sys/class/net/fcbr0/flags", "0x1003\n"))  # fmt: skip
    return host


BRIDGE = Bridge("fcbr0", "10.0.0.1/24")


def test_bridge_comes_and_goes(net: FakeHost) -> None:
    round_trip(net, BRIDGE)


def test_bridge_has_no_ipv6_past_the_rules(net: FakeHost) -> None:
    net.put("/proc/sys/net/ipv6/conf/fcbr0/disable_ipv6", "0\n")
    applied(net, BRIDGE)
    assert net.read_text("/proc/sys/net/ipv6/conf/fcbr0/disable_ipv6") == "1\n"


def test_recorded_bridge_is_repaired(net: FakeHost) -> None:
    put_link(net, "fcbr0", bridge=True, up=False, alias="nqrust-microvm")
    assert planned(net, BRIDGE) == ("+ 10.0.0.1/24 on fcbr0", "bring fcbr0 up")
    applied(net, BRIDGE)


def test_a_bridge_of_nqr_that_took_the_mac_of_a_port_gets_its_own_back(net: FakeHost) -> None:
    """A VMM chooses the MAC of its TAP. A bridge without a fixed MAC takes the lowest of its ports."""
    put_link(net, "fcbr0", bridge=True, up=True, alias="nqrust-microvm", address="10.0.0.1/24")
    net.put("/sys/class/net/fcbr0/address", "02:00:00:00:00:01\n")
    assert planned(net, BRIDGE) == (f"+ MAC {bridge_mac('fcbr0')} on fcbr0",)
    applied(net, BRIDGE)
    assert net.read_text("/sys/class/net/fcbr0/address") == f"{bridge_mac('fcbr0')}\n"


def test_bridge_just_as_asked_is_adopted(net: FakeHost) -> None:
    put_link(net, "fcbr0", bridge=True, up=True, address="10.0.0.1/24")
    inet6 = [{"local": "fe80::1", "prefixlen": 64}]
    net.on("ip", "-j", "-6", "address", "show", "dev", "fcbr0",
           answer=lambda h, c: json.dumps([{"ifname": "fcbr0", "addr_info": inet6}]))  # fmt: skip
    assert isinstance(BRIDGE.inspect(net), Satisfied)
    inet6.append({"local": "2001:db8::1", "prefixlen": 64})
    found = BRIDGE.inspect(net)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-106" and "2001:db8::1" in found.why


@pytest.mark.parametrize(
    "link, code",
    [
        ({"bridge": False, "up": True}, "NQR-NET-102"),
        ({"bridge": True, "up": True, "address": "172.16.0.1/24"}, "NQR-NET-103"),
        ({"bridge": True, "up": True}, "NQR-NET-103"),
        ({"bridge": True, "up": False, "address": "10.0.0.1/24"}, "NQR-NET-104"),
    ],
)
def test_foreign_interface_is_never_taken_over(net: FakeHost, link: dict[str, object], code: str) -> None:
    put_link(net, "fcbr0", **link)  # type: ignore[arg-type]
    found = BRIDGE.inspect(net)
    assert isinstance(found, Conflict) and found.code == code and found.cure


def test_network_that_is_in_use_elsewhere_is_refused(net: FakeHost) -> None:
    put_link(net, "eth1", bridge=False, up=True, address="10.0.0.77/16")
    found = BRIDGE.inspect(net)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-105" and "eth1" in found.why


def test_bridge_can_be_planned_before_iproute2_is_there(host: FakeHost) -> None:
    host.uninstall("ip")
    assert planned(host, BRIDGE)


# --- the firewall

SPEC = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", tcp_ports=(19091,))


class Tables:
    """iptables(8) in memory: append, check, delete, restore, and list in the real form."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        host.memory["rules"] = {
            "filter": {"INPUT": [], "FORWARD": [], "OUTPUT": []},
            "nat": {"POSTROUTING": []},
            "raw": {"PREROUTING": []},
        }
        host.on("iptables", prefix=True, answer=self.run, changes=False)
        host.on("iptables-restore", prefix=True, answer=self.restore)

    def run(self, host: FakeHost, cmd: Command) -> str | None:
        _, _, _, table, verb, *rest = cmd.argv
        chains = host.memory["rules"][table]
        if verb == "-S":
            shown = {rest[0]: chains[rest[0]]} if rest and rest[0] in chains else {} if rest else chains
            if rest and not shown:
                raise (CommandFailed(cmd.argv, 1, "No chain/target/match by that name.") if 1 not in cmd.ok else _No())
            head = [f"-P {c} ACCEPT" if c.isupper() and "NQR" not in c else f"-N {c}" for c in shown]
            return "\n".join(head + [f"-A {c} {shlex.join(r)}" for c, rules in shown.items() for r in rules])
        chain, *spec = rest
        if verb in ("-I", "-A"):
            chains[chain].insert(*((0, spec[1:]) if verb == "-I" else (len(chains[chain]), spec)))
        elif verb == "-D":
            chains[chain].remove(spec)
        elif verb == "-F":
            chains[chain].clear()
        elif verb == "-X":
            del chains[chain]
        return None

    def restore(self, host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        table = ""
        for line in cmd.input.decode().splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                host.memory["rules"][table][line[1:].split()[0]] = []
            elif line.startswith("-A "):
                _, chain, *spec = shlex.split(line)
                host.memory["rules"][table][chain].append(spec)


class _No(Exception):
    pass


def test_firewall_rules_are_inserted_once_under_product_names(host: FakeHost) -> None:
    Tables(host)
    step = IptablesRules(SPEC)
    applied(host, step)
    step.apply(host)
    rules = host.memory["rules"]
    assert [jump[-1] for jump in rules["filter"]["FORWARD"]] == ["NQR-FORWARD", "NQR-ROUTED"]
    assert len(rules["filter"]["INPUT"]) == len(rules["nat"]["POSTROUTING"]) == 1
    leaves = "-s 10.0.0.0/24 ! -d 10.0.0.0/24 ! -o fcbr0 "
    tcp, udp, rest = (" ".join(rule).removeprefix(leaves) for rule in rules["nat"]["NQR-POSTROUTING"])
    assert (tcp, rest) == ("-p tcp -j MASQUERADE --to-ports 32768-65535 --random-fully", "-j MASQUERADE")
    assert udp == "-p udp -j MASQUERADE --to-ports 61001-65535"


def test_foreign_rules_before_the_product_rules_cause_no_change(host: FakeHost) -> None:
    Tables(host)
    applied(host, IptablesRules(SPEC))
    host.memory["rules"]["filter"]["FORWARD"].insert(0, ["-j", "DOCKER-USER"])
    assert isinstance(IptablesRules(SPEC).inspect(host), Satisfied)
    IptablesRules(SPEC).apply(host)
    assert host.memory["rules"]["filter"]["FORWARD"][0] == ["-j", "DOCKER-USER"]


@pytest.mark.parametrize("damage", ["flushed", "doubled jump", "foreign rule"])
def test_drift_is_found_and_repaired(host: FakeHost, damage: str) -> None:
    Tables(host)
    step = IptablesRules(SPEC)
    applied(host, step)
    tables = host.memory["rules"]["filter"]
    if damage == "flushed":
        tables["NQR-INPUT"].clear()
    elif damage == "doubled jump":
        tables["FORWARD"] *= 2
    else:
        tables["NQR-FORWARD"].insert(0, ["-j", "ACCEPT"])
    assert planned(host, step)
    applied(host, step)


def test_rules_are_set_under_the_lock_of_the_boot_script(host: FakeHost) -> None:
    Tables(host)
    applied(host, IptablesRules(SPEC, "/opt/x/nqrust-network"))
    assert host.locks == ["/opt/x/nqrust-network"]


def test_rules_that_something_else_wrote_at_the_same_moment_are_put_right(host: FakeHost) -> None:
    """After a reboot without systemd, the boot script and the installer both insert the jump."""
    Tables(host)
    step = IptablesRules(SPEC)
    step.apply(host)
    host.memory["rules"]["filter"]["FORWARD"] *= 2
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)


def test_chain_that_became_anothers_meanwhile_is_not_emptied(host: FakeHost) -> None:
    Tables(host)
    step = IptablesRules(SPEC)
    step.apply(host)
    tables = host.memory["rules"]["filter"]
    tables["INPUT"], tables["NQR-INPUT"] = [], [["-s", "198.51.100.7/32", "-j", "DROP"]]
    with pytest.raises(StepFailed, match="NQR-INPUT"):
        step.verify(host)
    assert tables["NQR-INPUT"] == [["-s", "198.51.100.7/32", "-j", "DROP"]]


def test_foreign_chain_is_not_emptied(host: FakeHost) -> None:
    Tables(host)
    tables = host.memory["rules"]["filter"]
    tables["NQR-INPUT"] = [["-s", "198.51.100.7/32", "-j", "DROP"]]
    found = IptablesRules(SPEC).inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-NET-111" and "NQR-INPUT" in found.why
    tables["NQR-INPUT"] = [list(rule) for rule in SPEC.chains[1].rules[:2]]  # ours, cut off before the jump
    applied(host, IptablesRules(SPEC))


def test_guest_firewall_allows_only_listed_targets(host: FakeHost) -> None:
    inbound = next(chain for chain in SPEC.chains if chain.name == "NQR-INPUT")
    text = [" ".join(rule) for rule in inbound.rules]
    assert text[-1] == "-i fcbr0 -j DROP"
    assert not any("18080" in rule or "5432" in rule or "--dport 22" in rule or "--dport 53" in rule for rule in text)
    assert any("--dport 19091" in rule and "-d 10.0.0.1/32" in rule for rule in text)


def test_isolated_network_has_no_way_out() -> None:
    spec = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", outside=False)
    assert spec.tables == ("filter",)
    assert [" ".join(rule) for rule in spec.chains[0].rules] == [
        "-d 169.254.0.0/16 -i fcbr0 -j DROP",
        "-i fcbr0 -o fcbr0 -j DROP",
        "-i fcbr0 -j DROP",
        "-o fcbr0 -j DROP",
    ]


def test_guests_that_may_meet_have_the_limits_among_each_other_too() -> None:
    forward = [" ".join(rule) for rule in vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", apart=False).chains[0].rules]
    meet = forward.index("-i fcbr0 -o fcbr0 -j ACCEPT")
    assert [any(word in rule for rule in forward[:meet]) for word in ("nqr-new", "--connlimit-above 4096")] == [True, True]
    assert vm_network_ipv6("fcbr0", apart=False).chains[0].rules[0] == ("-i", "fcbr0", "-o", "fcbr0", "-j", "ACCEPT")
    assert vm_network_ipv6("fcbr0").chains[0].rules == (("-i", "fcbr0", "-j", "DROP"), ("-o", "fcbr0", "-j", "DROP"))


def test_refused_rules_have_a_cure(host: FakeHost) -> None:
    host.on(
        "iptables-restore",
        prefix=True,
        answer=CommandFailed(("iptables-restore",), 3, "can't initialize table\n"),
    )
    with pytest.raises(StepFailed) as caught:
        IptablesRules(SPEC).apply(host)
    assert caught.value.code == "NQR-NET-110" and "can't initialize table" in caught.value.what


def test_rules_can_be_planned_before_iptables_is_there(host: FakeHost) -> None:
    host.uninstall("iptables")
    assert planned(host, IptablesRules(SPEC))


def test_listing_is_parsed() -> None:
    text = '-P FORWARD DROP\n-N X\n-A FORWARD -m comment --comment "a b" -j X\n'
    assert parse_rules(text) == {"FORWARD": [("-m", "comment", "--comment", "a b", "-j", "X")], "X": []}
    assert FirewallSpec(()).tables == ()
