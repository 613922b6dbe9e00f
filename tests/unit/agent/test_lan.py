"""VMs on a LAN's bridge: the filter of their ports, and what the agent leaves alone."""

from __future__ import annotations

import asyncio
import json
from unittest.mock import MagicMock

import pytest
import structlog
from tests.fakes.host import FakeHost
from tests.unit.agent.test_network import TAP, machine, ran, record

from nqrust.agent import server, settings
from nqrust.agent.errors import Failed
from nqrust.agent.network.lan import LanGuard, passing, table
from nqrust.agent.network.own_addresses import Protected, by_family, protected
from nqrust.agent.network.port_guard import PortGuard
from nqrust.agent.network.ports import Ports
from nqrust.agent.network.sources import Sources
from nqrust.agent.network.taps import Taps
from nqrust.agent.server import Agent
from nqrust.contract.hosts import HostCapacity
from nqrust.contract.names import LAN_MARK, mac_address, tap_mac
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed

VM = record("a1", None, TAP)
ADDRESSES = [{"ifname": "br0", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}]}]


def lan_host(*, netfilter: bool = False) -> FakeHost:
    host = FakeHost.debian12()
    for program in ("ip", "nft", "iptables", "iptables-restore"):
        host.install(program)
    host.on("ip", prefix=True, answer=json.dumps(ADDRESSES))
    host.on("ip", "-j", "-4", "route", "show", "table", "all", answer='[{"gateway": "192.0.2.254", "dev": "br0"}]')
    host.on("ip", "-j", "-6", "route", "show", "table", "all", answer="[]")
    host.on("ip", "-j", "nexthop", "show", answer=Completed(("ip",), 255, "", 'Object "nexthop" is unknown'))
    host.on("nft", prefix=True, answer=lambda h, c: _nft(h, c))
    host.on("iptables", prefix=True)
    host.on("iptables-restore", prefix=True)
    if netfilter:
        host.put("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
    return host


def _nft(host: FakeHost, cmd: Command) -> str | Completed:
    if cmd.argv[1] == "-f":
        host.memory["table"] = cmd.input.decode() if isinstance(cmd.input, bytes) else ""
        return ""
    return host.memory.get("table") or Completed(cmd.argv, 1, "", "No such file or directory")


def test_a_port_is_filtered_by_name_and_nothing_else_of_the_bridge_is() -> None:
    text = table(Ports([VM]), Protected(("192.0.2.1",), ("fe80::1",)))
    assert text.startswith("table bridge nqrust-microvm\ndelete table bridge nqrust-microvm\n"), "in one transaction"
    assert f'iifname vmap {{ "{TAP}" : jump vm-{TAP} }}' in text
    assert f'iifname vmap {{ "{TAP}" : jump host-{TAP} }}' in text
    assert f"ether saddr != {VM.mac} drop" in text and f"meta mark set {LAN_MARK}" in text
    assert text.index("icmp type echo-request limit rate over 100/second") < text.index("meta mark set")
    assert "nd-neighbor-advert limit rate over 20/second burst 50 packets drop" in text
    assert "ip saddr { 192.0.2.1 } drop" in text and "ip6 saddr { fe80::1 } drop" in text
    assert "@th,64,128 0xfe800000000000000000000000000001 drop" in text
    assert "hook" not in table(Ports([]), Protected()), "without VMs no frame of the LAN is looked at"


def test_frames_to_and_from_the_lan_are_tracked_only_if_they_are_for_the_host() -> None:
    """Each would be a connection in the host's table, which has no limit for a VM of a LAN."""
    host = lan_host(netfilter=True)
    host.put("/sys/class/net/br0/address", "02:00:00:00:00:0a\n")
    host.put("/sys/class/net/br0/brif/lan0/state", "3\n")
    host.put("/sys/class/net/lan0/address", "02:00:00:00:00:0b\n")
    LanGuard(host, "br0", lambda: [VM]).sync()
    assert f'iifname {{ "{TAP}" }} ether daddr != {{ 02:00:00:00:00:0a, 02:00:00:00:00:0b }} notrack' in host.memory["table"]
    assert f"ether daddr {{ {VM.mac} }} notrack" in host.memory["table"]
    host = lan_host()
    LanGuard(host, "br0", lambda: [VM]).sync()
    assert "notrack" not in host.memory["table"], "without br_netfilter nothing is tracked"


def test_a_kernel_that_tracks_every_frame_is_told_and_filters_all_the_same() -> None:
    host = lan_host(netfilter=True)
    host.put("/sys/class/net/br0/address", "02:00:00:00:00:0a\n")
    host.put_directory("/sys/class/net/br0/brif")

    def nft(host: FakeHost, cmd: Command) -> str | Completed:
        if b"notrack" in bytes(cmd.input or b""):
            raise CommandFailed(("nft",), 1, "", "No such file or directory")
        return _nft(host, cmd)

    host.on("nft", prefix=True, answer=nft)
    guard = LanGuard(host, "br0", lambda: [VM])
    assert guard.sync() and TAP in host.memory["table"]
    assert "No such file" in guard.lacking


def test_addresses_are_sorted_by_family() -> None:
    assert by_family(["192.0.2.9", "", "fe80::1", "192.0.2.1"]) == (("192.0.2.1", "192.0.2.9"), ("fe80::1",))


def test_what_is_for_the_host_goes_to_its_bridge_and_no_other_card_of_it() -> None:
    """A router, or the host's second card on this LAN, would lead it to the host without the mark of VMs."""
    host = lan_host()
    links = [
        {"ifname": "lo", "address": "00:00:00:00:00:00", "addr_info": [{"local": "127.0.0.1"}, {"local": "::1"}]},
        {"ifname": "br0", "address": "02:00:00:00:00:0a", "addr_info": [{"local": "192.0.2.1"}, {"local": "fe80::1"}]},
        {"ifname": "lan0", "address": "02:00:00:00:00:0a"},
        {"ifname": "lan1", "address": "02:00:00:00:00:0c", "addr_info": [{"local": "198.51.100.7"}, {"local": "fe80::7"}]},
        {"ifname": "docker0", "address": "02:00:00:00:00:0d", "addr_info": [{"local": "172.17.0.1"}, {"local": "fd00::1"}]},
        {"ifname": "tun0", "addr_info": [{"local": "10.8.0.2"}]},
    ]
    host.on("ip", "-j", "address", "show", answer=json.dumps(links))
    for card in ("lan0", "lan1"):
        host.put_directory(f"/sys/class/net/{card}/device")
    guard = LanGuard(host, "br0", lambda: [VM])
    guard.sync()
    past_it = "ether daddr != 02:00:00:00:00:0a drop"
    assert f"ip daddr {{ 10.8.0.2, 172.17.0.1, 192.0.2.1, 198.51.100.7 }} {past_it}" in host.memory["table"]
    assert f"ip6 daddr {{ fd00::1, fe80::1 }} {past_it}" in host.memory["table"], "fe80::7 may be another machine's, too"
    assert "ether daddr { 02:00:00:00:00:0c } drop" in host.memory["table"]
    assert "ip saddr { 192.0.2.1, 192.0.2.254 } drop" in host.memory["table"]
    host.on("ip", "-j", "address", "show", answer=json.dumps(links[:3]))
    assert guard.sync() and "198.51.100.7" not in host.memory["table"]
    host.on("ip", "-j", "address", "show", answer="no JSON")
    with pytest.raises(Failed):
        guard.sync()


def test_nobody_speaks_for_a_gateway_of_any_route() -> None:
    host = lan_host()
    routes = [
        {"dst": "default", "nexthops": [{"gateway": "192.0.2.7", "dev": "br0"}, {"gateway": "198.51.100.1", "dev": "lan1"}]},
        {"dst": "10.0.0.0/8", "table": "100", "gateway": "192.0.2.8", "dev": "br0"},
        {"dst": "10.1.0.0/16", "via": {"family": "inet6", "host": "fe80::8"}, "dev": "br0"},
        {"dst": "10.2.0.0/16", "gateway": "198.51.100.2", "dev": "lan1"},
        {"dst": "192.0.2.0/24", "dev": "br0"},
    ]
    host.on("ip", "-j", "-4", "route", "show", "table", "all", answer=json.dumps(routes))
    host.on("ip", "-j", "-6", "route", "show", "table", "all", answer='[{"gateway": "fe80::9", "dev": "br0"}]')
    host.on("ip", "-j", "nexthop", "show", answer='[{"id": 1, "gateway": "192.0.2.9", "dev": "br0"}]')
    found = protected(host, "br0")
    assert found.v4 == ("192.0.2.1", "192.0.2.7", "192.0.2.8", "192.0.2.9")
    assert found.v6 == ("fe80::1", "fe80::8", "fe80::9")


def test_the_table_is_written_once_and_again_after_a_flush() -> None:
    host, records = lan_host(), [VM]
    guard = LanGuard(host, "br0", lambda: records)
    assert guard.sync() and not guard.sync()
    assert "192.0.2.254" in host.memory["table"], "the gateway's address is protected, too"
    host.memory["table"] = ""
    assert guard.sync() and TAP in host.memory["table"]
    records.clear()
    assert guard.sync() and TAP not in host.memory["table"]


def test_a_guest_that_does_not_power_off_keeps_its_filters() -> None:
    """`stop` is on record before the guest is asked, and the guest may take its time."""
    host, one = lan_host(), record("a1", "10.0.0.9", TAP)
    lan, sources = LanGuard(host, "br0", lambda: [one]), Sources(host, "br0", lambda: [one])
    one.asked = "stop"
    host.put(f"/sys/class/net/{TAP}/address", "")
    lan.sync()
    sources.sync()
    assert TAP in host.memory["table"]
    assert any(call.argv[0] == "iptables-restore" and b"10.0.0.9/32" in bytes(call.input or b"") for call in host.commands)
    host.remove_tree(f"/sys/class/net/{TAP}")
    lan.sync()
    assert TAP not in host.memory["table"]


def test_nothing_passes_the_port_of_a_vm_without_a_record() -> None:
    """A damaged vm.json took the filter off the port of a VM that ran on."""
    host, records = lan_host(netfilter=True), [VM]
    host.put("/sys/class/net/br0/address", "02:00:00:00:00:0a\n")
    host.put_directory("/sys/class/net/br0/brif")
    for name, alias in ((TAP, "nqrust-vm:a1"), ("tap0ther", "nqrust-vm:b1"), ("tapvpn", "office")):
        host.put(f"/sys/class/net/{name}/tun_flags", "0x2\n")
        host.put(f"/sys/class/net/{name}/ifalias", f"{alias}\n")
    guard, sources = LanGuard(host, "br0", lambda: records), Sources(host, "br0", lambda: records)
    guard.sync()
    assert f'iifname vmap {{ "{TAP}" : jump vm-{TAP}, "tap0ther" : drop }}' in host.memory["table"]
    assert "tap0ther" in guard.lacking and TAP not in guard.lacking and "tapvpn" not in host.memory["table"]
    records.clear()
    assert guard.sync() and f'"{TAP}" : drop, "tap0ther" : drop' in host.memory["table"]
    sources.sync()
    drawn = [bytes(call.input or b"").decode() for call in host.commands if call.argv[0] == "iptables-restore"][-1]
    assert f"-i br0 -m mac --mac-source {mac_address('b1')} -j DROP" in drawn and "-i tap0ther -j DROP" in drawn


def test_a_vm_without_its_filter_does_not_start() -> None:
    host = lan_host()
    host.on("nft", prefix=True, answer=CommandFailed(("nft",), 1, "", "Operation not supported"))
    taps = Taps(host, "br0", isolated=False, records=lambda: [VM], sources=LanGuard(host, "br0", lambda: [VM]), lan=True)
    with pytest.raises(Failed) as failed:
        taps.admit()
    assert failed.value.code == "NQR-NET-712"
    taps.remove(TAP)  # a VM that ends does so without it


def test_frames_are_accepted_in_forward_only_if_br_netfilter_sends_them_there() -> None:
    """The match for ports loads br_netfilter, which changes every bridge of the host."""
    for netfilter in (False, True):
        host = lan_host(netfilter=netfilter)
        seen = ran(host)
        LanGuard(host, "br0", lambda: [VM]).sync()
        assert any("physdev" in " ".join(call) for call in seen) is netfilter
    assert all(rule[:4] == ("-i", "br0", "-o", "br0") and TAP in rule for rule in passing("br0", [VM]))


def test_a_firewall_that_refuses_the_rules_keeps_no_vm_from_its_start() -> None:
    host = lan_host(netfilter=True)
    host.on("iptables", prefix=True, answer=CommandFailed(("iptables",), 4, "", "no table"))
    guard = LanGuard(host, "br0", lambda: [VM])
    assert guard.sync() and "no table" in guard.lacking


def test_a_vm_reaches_no_metadata_of_its_hosts_cloud() -> None:
    text = table(Ports([VM]), Protected())
    assert "ip daddr 169.254.0.0/16 drop" in text
    assert "ip daddr { 100.100.100.200, 168.63.129.16, 192.0.0.192 } tcp dport != 53 drop" in text
    assert "ip6 daddr { fd00:ec2::23, fd00:ec2::254, fd20:ce::254 } tcp dport != 53 drop" in text


def test_a_vm_wants_no_address_of_the_host() -> None:
    text = table(Ports([VM]), Protected(v6=("fe80::1",), mac="02:00:00:00:00:0a"))
    for about in ("@th,64,128 0xfe800000000000000000000000000001", "@th,128,64 0xfffe00000a"):
        assert f"icmpv6 type nd-neighbor-solicit ip6 saddr :: {about} drop" in text
        assert f"icmpv6 type nd-neighbor-advert {about} drop" in text
    assert f'oifname {{ "{TAP}" }} icmpv6 type nd-neighbor-solicit ip6 saddr :: drop' in text, "VMs hear of no new address"


def test_what_a_vm_may_send_to_its_host_is_decided_at_the_bridge() -> None:
    """Marks may be changed by others until the host's own rules see them."""
    text = table(
        Ports([VM]), Protected(of_host_v4=("192.0.2.1",), of_host_v6=("fd00::1",), broadcasts=("192.0.2.255",)), relay=7777
    )
    assert f"meta mark set {LAN_MARK}\n\t\tgoto own" in text
    assert "ip daddr { 192.0.2.1, 192.0.2.255 } goto its" in text and "ip6 daddr { fd00::1 } goto its" in text
    assert "tcp dport 7777 accept" in text and text.count("@asked accept") == 1
    assert f'oifname {{ "{TAP}" }} ip saddr {{ 192.0.2.1 }} update @asked ' in text
    host = lan_host()
    links = [{"ifname": "br0", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}, {"local": "192.0.3.1", "prefixlen": 32}]}]
    host.on("ip", "-j", "address", "show", answer=json.dumps(links))
    LanGuard(host, "br0", lambda: [VM]).sync()
    assert "{ 192.0.2.1, 192.0.3.1, 192.0.2.0, 192.0.2.255 } goto its" in host.memory["table"]


@pytest.mark.parametrize(
    ("mac", "fixed"), [("52:54:00:00:00:01", False), ("ff:54:00:00:00:01", True)], ids=["lower than the port's", "higher"]
)
def test_the_mac_of_the_lans_bridge_is_fixed_only_where_a_port_would_change_it(mac: str, fixed: bool) -> None:
    host = machine()
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"1\n")
    host.write_file("/sys/class/net/fcbr0/address", f"{mac}\n".encode())
    seen = ran(host)
    Taps(host, "fcbr0", isolated=False, lan=True).take(TAP, "a1", 77)
    assert (f"link set dev fcbr0 address {mac}" in seen[-1]) is fixed
    assert tap_mac("a1") > "52" and tap_mac("a1") < "ff"


def test_a_port_on_the_lan_is_pinned_to_its_vms_mac() -> None:
    host = machine()
    host.write_file("/sys/class/net/fcbr0/addr_assign_type", b"3\n")
    host.install("bridge")
    host.on("bridge", prefix=True)
    seen = ran(host)
    Taps(host, "fcbr0", isolated=False, records=lambda: [VM], lan=True).take(TAP, "a1", 77)
    assert f"link set dev {TAP} type bridge_slave learning off flood off guard on group_fwd_mask 65533 isolated off" in seen[1]
    assert ("bridge", "fdb", "replace", mac_address("a1"), "dev", TAP, "master", "static") in seen
    assert not any("neigh" in " ".join(call) for call in seen), "the LAN gives addresses"


@pytest.mark.parametrize(
    ("mode", "kinds"), [("nat", [Sources, PortGuard]), ("isolated", [Sources, PortGuard]), ("bridged", [LanGuard])]
)
def test_the_agent_filters_as_its_network_needs_it(mode: str, kinds: list[type], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.launch, "prepare", lambda host, settings: None)
    host = FakeHost.debian12()
    for folder in ("/srv", "/var/lib/nqrust-microvm"):
        host.put_directory(folder)
    found = Agent(host, settings.load({"AGENT_NETWORK_MODE": mode})).sources
    assert [type(one) for one in getattr(found, "_filters", [found])] == kinds


def test_the_agent_tells_which_ports_lead_to_no_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.launch, "prepare", lambda host, settings: None)
    told = {"advertised_url": "http://192.0.2.1:9090", "boot_id": "b", "capacity": HostCapacity(cpus=1, memory_mib=512)}
    for name, value in told.items():
        monkeypatch.setattr(server.facts, name, lambda *_, value=value: value)
    host = FakeHost.debian12()
    for folder in ("/srv", "/var/lib/nqrust-microvm"):
        host.put_directory(folder)
    agent = Agent(host, settings.load({"AGENT_BIND": "0.0.0.0:9090", "MANAGER_BASE": "http://127.0.0.1:8888"}))
    assert {22, 5432, 8888, 9090} < set(agent._describe().network.kept_ports)


def test_the_relay_moves_with_the_address_of_the_lans_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOVED", 0.01)
    found = ["192.0.2.1", None, "192.0.2.1", "192.0.2.7"]
    made, guests = MagicMock(), MagicMock()
    guests.should_exit = False
    made._guests_address = lambda: found.pop(0) if len(found) > 1 else found[0]
    with structlog.testing.capture_logs() as logs:
        asyncio.run(asyncio.wait_for(Agent._until_moved(made, guests, "192.0.2.1"), 5))
    assert guests.should_exit is True and found == ["192.0.2.7"]
    assert [line["event"] for line in logs] == ["relay.address_changed"]
