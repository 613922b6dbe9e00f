"""A re-run moves ports between services, a subnet between bridges, and rules between networks. A failed run reverts each
exactly."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted, round_trip
from tests.unit.installer.verbs.test_kernel_and_network import Tables, put_link

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed, Host
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.supervisor.holding import own_processes
from nqrust.installer.supervisor.spec import ServiceState
from nqrust.installer.supervisor.supervisord import Supervisord, parse_status
from nqrust.installer.supervisor.systemd import Systemd, parse_show
from nqrust.installer.verbs.firewall.rules import IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network
from nqrust.installer.verbs.network.link import Bridge, BridgeMakesWay
from nqrust.installer.verbs.network.makes_way import MakesWay
from nqrust.installer.verbs.service.undo import needs_settling, unit

ALIAS = "nqrust-microvm"


@pytest.fixture
def net() -> FakeHost:
    """ip(8) in memory: bridges with alias and addresses."""
    host = FakeHost.debian12()
    host.on("tee", prefix=True, changes=True, answer=lambda h, c: h.put(c.argv[1], c.input))
    put_link(host, "fcbr0", bridge=True, up=True, alias=ALIAS, address="10.0.0.1/24")

    def show(host: FakeHost, cmd: Command) -> str:
        found = host.memory["addresses"].items()
        split = {name: [a.split("/") for a in addresses] for name, addresses in found}
        return json.dumps(
            [{"ifname": n, "addr_info": [{"local": a, "prefixlen": int(p)} for a, p in s]} for n, s in split.items()]
        )

    def one(host: FakeHost, words: list[str]) -> None:
        addresses = host.memory["addresses"]
        if words[:2] == ["link", "add"]:
            put_link(host, words[3], bridge=True, up=False)
            host.put(f"/sys/class/net/{words[3]}/address", f"{words[5]}\n")
        elif words[:2] == ["link", "delete"]:
            host.tree.detach(f"/sys/class/net/{words[2]}")
            del addresses[words[2]]
        elif words[:2] == ["link", "set"] and words[-1] == "up":
            host.put(f"/sys/class/net/{words[3]}/flags", "0x1003\n")
        elif words[:2] == ["link", "set"]:
            host.put(f"/sys/class/net/{words[3]}/{'ifalias' if words[4] == 'alias' else words[4]}", words[5] + "\n")
        elif words[:2] == ["address", "replace"] and words[2] not in addresses[words[-1]]:
            addresses[words[-1]].append(words[2])
        elif words[:2] == ["address", "del"]:
            addresses[words[-1]].remove(words[2])

    def batch(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        for line in cmd.input.decode().splitlines():
            one(host, line.split())

    host.on("ip", prefix=True, changes=True, answer=lambda h, c: one(h, list(c.argv[1:])))
    host.on("ip", "-j", "-4", "address", "show", answer=show)
    host.on("ip", "-batch", "-", changes=True, answer=batch)
    return host


def addresses(host: FakeHost, name: str) -> list[str]:
    found: list[str] = host.memory["addresses"][name]
    return found


def test_recorded_bridge_changes_its_network_and_reverts(net: FakeHost) -> None:
    step = Bridge("fcbr0", "10.9.0.1/24", former=("10.0.0.1/24",))
    assert planned(net, step) == ("+ 10.9.0.1/24 on fcbr0", "- 10.0.0.1/24 on fcbr0")
    _, records = applied(net, step)
    assert addresses(net, "fcbr0") == ["10.9.0.1/24"]
    reverted(net, records)
    assert addresses(net, "fcbr0") == ["10.0.0.1/24"]


def test_address_added_by_an_administrator_stays_on_the_bridge(net: FakeHost) -> None:
    net.memory["addresses"]["fcbr0"].append("192.168.7.1/24")
    applied(net, Bridge("fcbr0", "10.9.0.1/24", former=("10.0.0.1/24",)))
    assert sorted(addresses(net, "fcbr0")) == ["10.9.0.1/24", "192.168.7.1/24"]


def test_bridge_gives_its_subnet_to_a_new_bridge_and_reverts(net: FakeHost) -> None:
    before = net.state(ignore=("/var/lib/originals",))
    new = Bridge("vmbr1", "10.0.0.1/24", instead_of=("fcbr0",))
    assert isinstance(new.inspect(net), Needed), "a look ahead does not take the old one for a conflict"
    assert isinstance(Bridge("vmbr1", "10.0.0.1/24").inspect(net), Conflict)
    _, away = applied(net, BridgeMakesWay("fcbr0", "vmbr1"))
    assert not net.exists("/sys/class/net/fcbr0")
    _, made = applied(net, new)
    reverted(net, made)
    reverted(net, away)
    assert net.state(ignore=("/var/lib/originals",)) == before


def test_foreign_bridge_is_never_replaced(net: FakeHost) -> None:
    put_link(net, "br0", bridge=True, up=True, address="10.0.0.1/24")
    assert isinstance(BridgeMakesWay("br0", "vmbr1").inspect(net), Satisfied)
    assert isinstance(Bridge("vmbr1", "10.0.0.1/24", instead_of=("br0",)).inspect(net), Conflict)


# --- rules

NAT = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", dns=True)
ISOLATED = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", outside=False)
MOVED = vm_network("vmbr1", "10.9.0.0/24", "10.9.0.1")


class Strict(Tables):
    """Exit with 1 like the real one for `-C` and `-D` of a missing rule, and for `-S` of a missing chain."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host)
        host.memory["rules"]["nat"] |= {"PREROUTING": [], "OUTPUT": []}

    def run(self, host: FakeHost, cmd: Command) -> Any:
        _, _, _, table, verb, *rest = cmd.argv
        chains = host.memory["rules"][table]
        if verb in ("-C", "-D") and list(rest[1:]) not in chains.get(rest[0], []):
            return Completed(cmd.argv, 1, "", "Bad rule")
        if verb == "-S" and rest and rest[0] not in chains:
            return Completed(cmd.argv, 1, "", "No chain")
        if verb == "-C":
            return None
        return super().run(host, cmd)


@pytest.mark.parametrize("now", [ISOLATED, MOVED], ids=["isolated", "another bridge"])
def test_firewall_rules_of_a_changed_network_replace_the_old_ones_and_revert(now: Any) -> None:
    host = FakeHost.debian12()
    Strict(host)
    _, first = applied(host, IptablesRules(NAT))
    before = json.dumps(host.memory["rules"], sort_keys=True)
    fresh = FakeHost.debian12()
    Strict(fresh)
    IptablesRules(now).apply(fresh)
    _, second = applied(host, IptablesRules(now))
    assert host.memory["rules"] == fresh.memory["rules"], "nothing of the old network is left"
    reverted(host, second)
    assert json.dumps(host.memory["rules"], sort_keys=True) == before
    reverted(host, first)
    assert not [c for chains in host.memory["rules"].values() for c in chains if c.startswith("NQR")]


def test_network_opened_to_the_outside_gets_its_chain_and_reverts() -> None:
    host = FakeHost.debian12()
    Strict(host)
    applied(host, IptablesRules(ISOLATED))
    before = json.dumps(host.memory["rules"], sort_keys=True)
    _, second = applied(host, IptablesRules(NAT))
    assert host.memory["rules"]["nat"]["NQR-POSTROUTING"]
    reverted(host, second)
    assert json.dumps(host.memory["rules"], sort_keys=True) == before


def test_port_forwards_of_the_agent_stay_with_nat_and_go_with_it() -> None:
    host = FakeHost.debian12()
    Strict(host)
    applied(host, IptablesRules(NAT))
    host.memory["rules"]["nat"] |= {"NQR-PREROUTING": [["-j", "RETURN"]]}
    host.memory["rules"]["nat"]["PREROUTING"] = [shlex.split("-m comment --comment nqrust -j NQR-PREROUTING")]
    assert isinstance(IptablesRules(NAT).inspect(host), Satisfied)
    applied(host, IptablesRules(ISOLATED))
    assert host.memory["rules"]["nat"] == {"POSTROUTING": [], "PREROUTING": [], "OUTPUT": []}


def test_a_kernel_without_nat_can_still_be_isolated() -> None:
    host = FakeHost.debian12()
    Strict(host)
    host.on("iptables", "-w", "-t", "nat", "-S", answer=lambda h, c: Completed(c.argv, 3, "", "can't initialize"))
    applied(host, IptablesRules(ISOLATED))
    with pytest.raises(CommandFailed):
        IptablesRules(NAT).inspect(host)


# --- ports


@dataclass(frozen=True)
class Box(Systemd):
    box: dict[str, ServiceState] = field(default_factory=dict)

    def state(self, host: Host, name: str) -> ServiceState:
        return self.box.get(name, ServiceState())

    def stop(self, host: Host, name: str) -> None:
        self.box[name] = replace(self.box[name], active=False, pid=0)


def listening(host: FakeHost, pid: int, port: int, parent: int = 1) -> None:
    host.put(f"/proc/{pid}/comm", "ui\n")
    host.put(f"/proc/{pid}/stat", f"{pid} (a (b) c) S {parent} 1 1\n")
    host.put_directory(f"/proc/{pid}/fd")
    host.put_symlink(f"socket:[{pid}00]", f"/proc/{pid}/fd/3")
    row = f"   0: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {pid}00 1\n"
    before = host.read_text("/proc/net/tcp") if host.exists("/proc/net/tcp") else "  sl  local_address\n"
    host.put("/proc/net/tcp", before + row)


@pytest.fixture
def box() -> Box:
    return Box(box={"nqrust-ui": ServiceState(known=True, enabled=True, active=True, pid=77)})


def test_a_service_stops_while_it_holds_a_port_that_another_is_to_have(box: Box) -> None:
    host = FakeHost.debian12()
    listening(host, 77, 3000)
    step = MakesWay("nqrust-ui", box, (("0.0.0.0", 3000),))
    assert planned(host, step) == ("- nqrust-ui.service on port 3000",)
    prepared, records = applied(host, step)
    assert not box.box["nqrust-ui"].active and needs_settling(records[0]), "going back starts it again"
    assert prepared.undo[0].args["enabled"] and prepared.undo[0].args["active"]


def test_a_service_stays_when_it_holds_another_port_or_somebody_else_holds_it(box: Box) -> None:
    host = FakeHost.debian12()
    listening(host, 77, 3001)
    listening(host, 88, 3000)
    assert isinstance(MakesWay("nqrust-ui", box, (("0.0.0.0", 3000),)).inspect(host), Satisfied)
    listening(host, 99, 3000, parent=77)
    assert isinstance(MakesWay("nqrust-ui", box, (("0.0.0.0", 3000),)).inspect(host), Needed), "its child holds it"


def test_dhcp_stops_while_the_old_bridge_is_there(net: FakeHost, box: Box) -> None:
    step = MakesWay("nqrust-ui", box, links=("fcbr0", "gone"))
    assert planned(net, step) == ("- nqrust-ui.service on fcbr0",)
    applied(net, step)


def test_processes_of_a_service_are_its_main_one_and_its_children(box: Box) -> None:
    host = FakeHost.debian12()
    for pid, parent in ((77, 1), (78, 77), (79, 78), (80, 1)):
        host.put(f"/proc/{pid}/stat", f"{pid} (x) S {parent} 1\n")
    assert own_processes(host, box, ["nqrust-ui", "nqrust-manager"]) == {77, 78, 79}
    assert own_processes(host, box, []) == frozenset()


def test_both_supervisors_tell_the_main_process() -> None:
    assert parse_show("ActiveState=active\nMainPID=4353\n", now=1.0, monotonic=1.0).pid == 4353
    assert parse_show("ActiveState=inactive\nMainPID=0\n", now=1.0, monotonic=1.0).pid == 0
    assert parse_status("ui  RUNNING   pid 812, uptime 0:00:05", "ui", enabled=True, now=9.0).pid == 812
    assert parse_status("ui  STOPPED   Nov 27 10:00 PM", "ui", enabled=True, now=9.0).pid == 0


def test_supervisord_forgets_a_program_that_goes() -> None:
    host, said = FakeHost.debian12(), Supervisord()
    host.put(said.control[0], "")
    host.on(*said.control, prefix=True, changes=True)
    context: Any = UndoContext(host, None)  # type: ignore[arg-type]
    args = {"supervisor": "supervisord", "name": "ui", "control": list(said.control)}
    unit(context, {**args, "enabled": False, "active": False})
    assert [c.argv[3:] for c in host.commands] == [("stop", "ui"), ("remove", "ui")]
    host.commands.clear()
    unit(context, {**args, "enabled": True, "active": True})
    assert host.commands == []


def test_missing_bridge_needs_no_replacement(net: FakeHost) -> None:
    assert isinstance(BridgeMakesWay("gone", "vmbr1").inspect(net), Satisfied)
    net.put_directory("/sys/class/net/other")
    round_trip(net, Bridge("vmbr2", "10.44.0.1/24"))
