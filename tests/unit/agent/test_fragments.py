"""Fragments of packets from VMs: how many the host takes. tests/live/installer/verbs has the rules at work."""

from __future__ import annotations

import pytest
from tests.documentation import pages
from tests.fakes.host import FakeHost
from tests.unit.agent.test_network import TAP, record

from nqrust.agent.network.filters import Filters
from nqrust.agent.network.fragments import _MEMORY, A_SECOND, AT_ONCE, Allowed, of_all, shared
from nqrust.agent.network.port_guard import PortGuard, table
from nqrust.agent.network.ports import Ports
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command

VM = record("a1", "10.0.0.20", TAP)


@pytest.mark.parametrize(("room", "seconds"), [(4 << 20, 30), (64 << 20, 30), (4 << 20, 60), (256 << 10, 30)])
def test_all_vms_together_leave_a_quarter_of_the_hosts_room(room: int, seconds: int) -> None:
    host = FakeHost.debian12()
    host.put("/proc/sys/net/ipv4/ipfrag_high_thresh", f"{room}\n")
    host.put("/proc/sys/net/ipv4/ipfrag_time", f"{seconds}\n")
    found = of_all(host)
    assert (found.at_once + found.a_second * seconds) * _MEMORY <= room * 3 // 4
    assert f"limit rate over {found.a_second}/second burst {found.at_once} packets drop" in "\n".join(shared(found))


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("ipv6/ip6frag_time", 90, 90),
        ("netfilter/nf_conntrack_frag6_timeout", 120, 120),
        ("ipv6/ip6frag_high_thresh", 1 << 20, 60),
        ("netfilter/nf_conntrack_frag6_high_thresh", 1 << 20, 60),
        ("ipv4/ipfrag_high_thresh", 4 << 20, 60),
    ],
)
def test_the_host_keeps_fragments_of_ipv6_for_longer(name: str, value: int, seconds: int) -> None:
    host = FakeHost.debian12()
    host.put(f"/proc/sys/net/{name}", f"{value}\n")
    found = of_all(host, ipv6=True)
    room = value if "thresh" in name else 4 << 20
    assert (found.at_once + found.a_second * seconds) * _MEMORY <= room * 3 // 4
    assert of_all(host).a_second > found.a_second, "where a VM sends its host IPv4 only, there is room for more"


def test_a_host_that_tells_nothing_of_its_room_has_the_default() -> None:
    assert of_all(FakeHost.debian12()) == Allowed()
    assert Allowed().at_once > 4 * AT_ONCE and Allowed().a_second > 3 * A_SECOND, "four guests take it"


def test_the_pages_have_the_figures() -> None:
    assert f"{A_SECOND} packets in fragments per second, burst {AT_ONCE}" in pages.text("docs/understand/security.md")


def test_a_port_is_limited_before_the_share_of_all() -> None:
    text = table(Ports([VM]), Allowed())
    one = text[text.index("chain vm-") :]
    assert one.index("ether type !=") < one.index(f"limit rate over {A_SECOND}/second") < one.index("jump fragments")
    assert "hook" not in table(Ports([]), Allowed()), "without VMs no frame is looked at"


def test_a_vm_speaks_for_its_own_address_alone() -> None:
    assert f"ether saddr != {VM.mac} drop" in (text := table(Ports([VM]), Allowed()))
    assert f"arp saddr ether != {VM.mac} drop" in text and "arp saddr ip != { 0.0.0.0, 10.0.0.20 } drop" in text
    assert "arp saddr ip != { 0.0.0.0 } drop" in table(Ports([record("a1", None, TAP)]), Allowed())


@pytest.mark.parametrize("lack", ["program", "kernel"])
def test_a_host_that_cannot_filter_ports_is_told_and_its_vms_run(lack: str) -> None:
    host = FakeHost.debian12()
    if lack == "program":
        host.uninstall("nft")
    else:
        host.install("nft")
        host.on("nft", prefix=True, answer=CommandFailed(("nft",), 1, "Operation not supported"))
    records = [VM]
    both = Filters(PortGuard(host, lambda: records), PortGuard(host, list))
    assert both.sync() is False and "nft" in both.lacking
    records.clear()
    assert both.sync() is False and both.lacking == "", "nobody needs it"


def test_the_rules_are_drawn_once_and_again_when_they_go() -> None:
    host = FakeHost.debian12()
    host.install("nft")

    def nft(host: FakeHost, cmd: Command) -> str:
        if cmd.argv[1] == "-f":
            host.memory["table"] = bytes(cmd.input or b"").decode()
        return str(host.memory.get("table", ""))

    host.on("nft", prefix=True, answer=nft)
    few = Filters(PortGuard(host, lambda: [VM]))
    assert [few.sync(), few.sync()] == [True, False]
    host.memory["table"] = ""
    assert [few.sync(), few.sync()] == [True, False]
