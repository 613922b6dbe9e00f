"""Which connections the agent ends when a forward goes, and what it logs of a kernel that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
import structlog
from tests.fakes.host import FakeHost
from tests.unit.agent.test_upkeep import agent

from nqrust.agent.errors import Failed
from nqrust.agent.keep_up import KeepUp
from nqrust.agent.network.connections import Ends
from nqrust.agent.network.forwards import Forwards
from nqrust.agent.settings import Network
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Connections

NAT = """-P PREROUTING ACCEPT
-N NQR-PREROUTING
-N NQR-OUTPUT
-A PREROUTING -m comment --comment nqrust -j NQR-PREROUTING
-A OUTPUT -m comment --comment nqrust -j NQR-OUTPUT
-A NQR-PREROUTING ! -i fcbr0 -p udp -m addrtype --dst-type LOCAL -m udp --dport 5140 -m comment --comment nqrust-vm:a \
-j DNAT --to-destination 10.0.0.20:514
-A NQR-OUTPUT ! -d 127.0.0.0/8 -p udp -m addrtype --dst-type LOCAL -m udp --dport 5140 -m comment --comment nqrust-vm:a \
-j DNAT --to-destination 10.0.0.20:514
"""


class KernelWithout(FakeHost):
    def end_connections(self, wanted: Collection[Connections]) -> int:
        raise HostError("connections could not be ended: Invalid argument")


def test_the_connections_of_a_forward_end_with_it() -> None:
    host = FakeHost.debian12()
    host.install("iptables")
    host.on("iptables", "-w", prefix=True, answer="")
    host.on("iptables", "-w", "-t", "nat", "-S", answer=NAT)
    assert Forwards(host, Network(), list).sync()
    assert host.ended == [Connections("10.0.0.20", "udp", 5140, 514)], "and no other of that VM"


def test_the_connections_of_a_forward_end_after_a_change_that_failed_half_way() -> None:
    host = FakeHost.debian12()
    host.install("iptables")
    host.on("iptables", "-w", prefix=True, answer="")
    host.on("iptables", "-w", "-t", "nat", "-S", answer=NAT)
    host.on("iptables", "-w", "-t", "filter", "-S", answer=CommandFailed(("iptables",), 4, "locked"))
    forwards = Forwards(host, Network(), list)
    with pytest.raises(Failed):
        forwards.sync()
    host.on("iptables", "-w", "-t", "nat", "-S", answer="-P PREROUTING ACCEPT")
    host.on("iptables", "-w", "-t", "filter", "-S", answer="-P FORWARD ACCEPT")
    forwards.sync()
    assert host.ended == [Connections("10.0.0.20", "udp", 5140, 514)]


@pytest.mark.parametrize(
    "foreign", ["-j RETURN", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.20", "-p 47 -j ACCEPT"]
)
def test_a_foreign_rule_in_the_chain_goes_and_stops_nothing(foreign: str) -> None:
    host = FakeHost.debian12()
    host.install("iptables")
    host.on("iptables", "-w", prefix=True, answer="")
    host.on("iptables", "-w", "-t", "nat", "-S", answer=f"{NAT}-A NQR-PREROUTING {foreign}\n")
    assert Forwards(host, Network(), list).sync()
    assert host.ended == [Connections("10.0.0.20", "udp", 5140, 514)]


def test_a_kernel_that_cannot_end_connections_is_told_once_and_nothing_fails() -> None:
    made, ends = agent("nat"), Ends(KernelWithout.debian12())
    ends.end()
    assert ends.lacking == ""
    ends.end(Connections("10.0.0.20"))
    made.service.forwards.connections = ends
    keep = KeepUp(made.service, made.verbs, None, made.sources, made.relay, lambda: None)
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            asyncio.run(keep.draw_forwards())
    assert [line["why"] for line in told if line["event"] == "connections.not_ended"] == [
        "connections could not be ended: Invalid argument"
    ]
