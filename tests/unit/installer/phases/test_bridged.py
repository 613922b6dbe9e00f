"""Bridged mode on a bridge that the administrator made: what the plan has of it, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit, network
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.verbs.lifecycle import applied, reverted

from nqrust.contract.names import LAN_MARK
from nqrust.contract.vms import GuestReport
from nqrust.host.errors import CommandFailed
from nqrust.host.facts.model import Link
from nqrust.host.port import Command, Completed
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Satisfied, Step
from nqrust.installer.engine.verb import Kept, UndoContext
from nqrust.installer.phases import deps, services
from nqrust.installer.phases.network import boot_script, firewall
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.proofs import canary
from nqrust.installer.proofs.hops import run_hop
from nqrust.installer.proofs.standing import standing
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.resources.env import agent_env
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.firewall import shell, undo, words
from nqrust.installer.verbs.firewall.bridge_table import BridgeTable
from nqrust.installer.verbs.firewall.lan import lan_guests, lan_guests_ipv6
from nqrust.installer.verbs.network.ready import ReadyBridge

BRIDGE = Link("br0", "bridge", True, "x", addresses=("192.0.2.10/24", "fe80::1/64"))
CARD = Link("eth1", "", True, "y", master="br0")
VMS_TAP = Link("tap0123456789a", "tun", True, "z", master="br0")
BRIDGED = {"mode": "bridged", "bridge_name": "br0"}
FORMER = Settings.model_validate({"network": {"bridge_name": "fcbr0"}})


def context(*links: Link, former: tuple[Settings, ...] = (), firewalls: tuple[str, ...] = (), **given: Any) -> Context:
    return Context(
        settings=Settings.model_validate({"network": BRIDGED, **given}),
        facts=fit(network=network(*(links or (BRIDGE, CARD)), firewalls=firewalls)),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        former=former,
    )


def steps(made: Context, phase: str) -> dict[str, Step]:
    return {step.id: step for one in planner.plan(made).phases if one.name == phase for step in one.steps}


def test_the_network_phase_has_rules_for_vms_and_nothing_of_a_network_of_nqrs_own() -> None:
    found = steps(context(), "network")
    assert list(found) == [
        "ready-bridge:br0",
        "firewall:iptables",
        "firewall:ip6tables",
        "bridge-table:nqrust-microvm",
        "directory:/opt/nqrust-microvm/libexec",
        "file:/opt/nqrust-microvm/libexec/nqrust-network",
    ]
    assert found["ready-bridge:br0"].describe() == "use bridge br0 as it is"


def test_forwarding_that_others_use_stays_when_nat_becomes_bridged() -> None:
    for used in (True, False):
        made = replace(context(former=(FORMER,)), forwards=lambda used=used: used)
        (phase,) = [one for one in planner.plan(made).phases if one.name == "network"]
        assert phase.keeps == (("sysctl:net.ipv4.ip_forward",) if used else ())


def test_there_is_no_dhcp_server_and_the_network_unit_comes_before_the_agent() -> None:
    units = {spec.name: spec for spec in services.our_services(context())}
    assert list(units) == ["nqrust-network", "nqrust-manager", "nqrust-agent", "nqrust-ui"]
    assert "nqrust-network" in units["nqrust-agent"].after and "nqrust-dhcp" not in units["nqrust-agent"].after
    assert "nftables" in deps.roles(context()) and "dnsmasq" not in deps.roles(context())
    env = agent_env(context())
    assert "AGENT_NETWORK_MODE=bridged\n" in env and "FC_BRIDGE=br0\n" in env and "CIDR" not in env and "DHCP" not in env


def test_rules_of_the_host_name_marked_packets_or_the_relay() -> None:
    """A rule without the mark would concern other machines of the LAN."""
    for spec in (lan_guests("br0", 19091), lan_guests_ipv6("br0")):
        for chain in spec.chains:
            for rule in chain.rules:
                assert LAN_MARK in rule or "19091" in rule, rule
        assert spec.chains[0].rules[-1] == ("-i", "br0", "-m", "mark", "--mark", LAN_MARK, "-j", "DROP")
    assert not any("physdev" in rule for chain in lan_guests("br0", 1).chains for rule in chain.rules), "it loads br_netfilter"


def test_a_host_that_forwards_leads_vms_back_to_no_lan_and_few_elsewhere() -> None:
    for spec in (lan_guests("br0", 19091), lan_guests_ipv6("br0")):
        (rules,) = [chain.rules for chain in spec.chains if chain.parent == "FORWARD"]
        assert rules[0] == ("-i", "br0", "-o", "br0", "-m", "mark", "--mark", LAN_MARK, "-j", "DROP")
        assert ["hashlimit" in rule or "connlimit" in rule for rule in rules] == [False, True, True]
        assert not any("ACCEPT" in rule for rule in rules), "the administrator's own rules decide"


@pytest.mark.parametrize("mode", ["production", "agent"])
def test_other_machines_reach_all_of_a_release_in_upstreams_form(mode: str) -> None:
    """Its guests report to its manager, whose port the LAN reaches too. There is no relay."""
    made = context(mode=mode, **({"agent": {"manager_base": "https://10.0.0.9:18443"}} if mode == "agent" else {}))
    upstream = replace(made, files=replace(made.files, release=made.files.release.model_copy(update={"form": "upstream"})))
    assert not upstream.speaks_our_api
    rules = [rule for spec in firewall(upstream) for chain in spec.chains for rule in chain.rules]
    assert rules and all(LAN_MARK in rule for rule in rules), "each names the packets of VMs"
    assert any("19091" in rule for spec in firewall(made) for chain in spec.chains for rule in chain.rules)
    assert "--dport 18080" not in boot_script(upstream)


def test_the_boot_script_makes_no_bridge() -> None:
    script = boot_script(context())
    assert "ip link" not in script and "nft add table bridge nqrust-microvm" in script and "ip_forward" not in script


# --- steps


def sysfs(alias: str = "", flags: str = "0x1003", *, bridge: bool = True) -> FakeHost:
    host = FakeHost.debian12()
    for name, text in (("flags", flags), ("ifalias", alias), ("address", "52:54:00:00:00:02")):
        host.put(f"/sys/class/net/br0/{name}", f"{text}\n")
    if bridge:
        host.put_directory("/sys/class/net/br0/bridge")
        host.put("/sys/class/net/br0/brif/eth1", "")
    host.on("ip", prefix=True, answer="[]")
    return host


@pytest.mark.parametrize(
    ("host", "code"),
    [
        (FakeHost.debian12(), "NQR-NET-130"),
        (sysfs(bridge=False), "NQR-NET-130"),
        (sysfs("nqrust-microvm"), "NQR-NET-130"),
        (sysfs(flags="0x1002"), "NQR-NET-135"),
        (sysfs(), ""),
    ],
    ids=["none", "no bridge", "nqr's own", "down", "ready"],
)
def test_a_bridge_is_used_as_it_is_or_not_at_all(host: FakeHost, code: str) -> None:
    found = ReadyBridge("br0").inspect(host)
    assert isinstance(found, Conflict if code else Satisfied)
    assert not isinstance(found, Conflict) or (found.code == code and found.cure)
    before = host.state()
    ReadyBridge("br0").apply(host)
    assert host.state() == before and ReadyBridge("br0").prepare(host).undo == ()


def nft(host: FakeHost) -> FakeHost:
    host.install("nft")
    host.memory["tables"] = []

    def answer(h: FakeHost, cmd: Command) -> Completed:
        tables = h.memory["tables"]
        verb, name = cmd.argv[1], cmd.argv[-1]
        there = name in tables
        if verb == "add" and not there:
            tables.append(name)
        if verb == "delete":
            tables.remove(name)
        return Completed(cmd.argv, 0 if verb == "add" or there else 1, "", "")

    host.on("nft", prefix=True, answer=answer)
    return host


def test_the_table_of_ports_comes_and_goes_and_others_stay() -> None:
    host = nft(FakeHost.debian12())
    host.memory["tables"].append("libvirt")
    _, records = applied(host, BridgeTable())
    assert host.memory["tables"] == ["libvirt", "nqrust-microvm"]
    reverted(host, records)
    assert host.memory["tables"] == ["libvirt"]
    reverted(host, records)
    (record,) = records
    assert words.bridge_table(record.args) == "remove the nftables table bridge nqrust-microvm"
    assert list(shell.bridge_table(UndoContext(host, None), record.args)) == ["remove_bridge_table nqrust-microvm"]  # type: ignore[arg-type]
    bare = FakeHost.debian12()
    bare.uninstall("nft")
    kept = undo.bridge_table(UndoContext(bare, None), record.args)  # type: ignore[arg-type]
    assert isinstance(kept, Kept)


def test_a_kernel_without_filters_for_bridges_fails_with_the_cure() -> None:
    host = FakeHost.debian12()
    host.install("nft")
    host.on("nft", prefix=True, answer=CommandFailed(("nft",), 1, "", "Operation not supported"))
    with pytest.raises(StepFailed) as failed:
        BridgeTable().apply(host)
    assert failed.value.code == "NQR-NET-139" and "nat" in failed.value.cure


def test_a_kernel_without_filters_for_bridges_does_without_them_in_a_network_of_nqrs_own() -> None:
    host = FakeHost.debian12()
    host.install("nft")
    host.on("nft", prefix=True, answer=lambda h, c: Completed(c.argv, 1, "", "Operation not supported"), changes=False)
    assert isinstance(BridgeTable(optional=True).inspect(host), Satisfied)
    assert not isinstance(BridgeTable().inspect(host), Satisfied)


def test_a_network_of_nqrs_own_has_the_table_too_where_nqrs_agent_fills_it() -> None:
    nat = replace(context(), settings=Settings())
    assert "bridge-table:nqrust-microvm" in steps(nat, "network") and "nftables" in deps.roles(nat)
    upstream = replace(nat, files=ReleaseFiles(RELEASE.model_copy(update={"form": "upstream"}), "/var/cache/x"))
    assert "bridge-table:nqrust-microvm" not in steps(upstream, "network") and "nftables" not in deps.roles(upstream)


# --- preflight


@pytest.mark.parametrize(
    ("links", "given", "code"),
    [
        ((BRIDGE, CARD), {}, ""),
        ((BRIDGE, CARD, VMS_TAP), {"uplink": "eth1"}, ""),
        ((BRIDGE, CARD), {"uplink": "eth0"}, "NQR-NET-137"),
        ((replace(BRIDGE, up=False), CARD), {}, "NQR-NET-135"),
        ((BRIDGE, VMS_TAP), {}, "NQR-NET-136"),
        ((replace(BRIDGE, addresses=("fe80::1/64",)), CARD), {}, "NQR-NET-138"),
    ],
    ids=["ready", "ready with its card", "another card", "down", "only VMs", "no address"],
)
def test_preflight_looks_at_the_bridge(links: tuple[Link, ...], given: dict[str, str], code: str) -> None:
    made = Settings.model_validate({"network": {**BRIDGED, **given}})
    found = run(made, fit(network=network(*links)), FakeHost.debian12(), Situation())
    assert [one.code for one in found if one.severity.value == "error"] == ([code] if code else [])


def test_the_bridge_of_nqrs_own_network_is_not_taken_for_the_lans() -> None:
    host = sysfs("nqrust-microvm")
    found = run(Settings.model_validate({"network": BRIDGED}), fit(network=network(BRIDGE, CARD)), host, Situation())
    assert [(one.code, "own VM network" in one.what) for one in found if one.severity.value == "error"] == [("NQR-NET-134", True)]


def test_a_vm_network_of_nat_that_the_lan_would_overlap_does_not_matter() -> None:
    lan = replace(BRIDGE, addresses=("10.0.0.77/24",))
    found = run(Settings.model_validate({"network": BRIDGED}), fit(network=network(lan, CARD)), FakeHost.debian12(), Situation())
    assert not [one for one in found if one.severity.value == "error"]


# --- proofs


def proofs(host: FakeHost) -> dict[str, tuple[str, str]]:
    hops = [hop for hop in standing(context(), host) if hop.name in ("bridge", "firewall", "dhcp")]
    return {hop.name: (found.verdict, found.detail) for hop in hops for found in [run_hop(hop, host)]}


def ready(code: int = 0, addresses: str = '[{"addr_info": [{"local": "192.0.2.10", "prefixlen": 24}]}]') -> FakeHost:
    host = sysfs()
    host.put_directory("/sys/class/net/eth1")
    host.on("ip", prefix=True, answer=addresses)
    host.on("/opt/nqrust-microvm/libexec/nqrust-network", prefix=True, answer=lambda h, c: Completed(c.argv, code, "", ""))
    return host


def test_verify_looks_at_the_bridge_and_the_rules_and_at_no_dhcp_server() -> None:
    found = proofs(ready())
    assert found["bridge"] == ("passed", "br0 has 192.0.2.10/24 and the port eth1")
    assert found["firewall"][0] == "passed" and "dhcp" not in found
    assert proofs(ready(code=1))["firewall"][0] == "failed" and proofs(ready(code=2))["firewall"][0] == "unproven"
    assert proofs(ready(addresses="[]"))["bridge"][0] == "failed"
    without = ready()
    without.put("/proc/net/if_inet6", "")
    without.install("iptables")
    without.uninstall("ip6tables")
    assert proofs(without)["firewall"][0] == "unproven", "VMs could reach the host over IPv6"
    straight_on = ready()
    straight_on.put("/sys/class/net/tap0123456789a/tun_flags", "0x5002\n")
    verdict, why = proofs(straight_on)["firewall"]
    assert verdict == "unproven" and "frames from tap0123456789a can change after the rules" in why
    straight_on.put("/sys/class/net/ifb0123456789a/flags", "0x83\n")
    assert proofs(straight_on)["firewall"][0] == "passed"
    alone = ready()
    alone.put("/sys/class/net/eth1/tun_flags", "0x2\n")
    assert proofs(alone)["bridge"] == ("failed", "br0 has no network card as a port")


class Bird:
    def __init__(self, **report: Any) -> None:
        self.report = GuestReport.model_validate({"ip": "192.0.2.61", "boot_id": "b", "gateway": "192.0.2.1", **report})

    def start(self) -> None: ...

    def look(self) -> canary.Seen:
        return canary.Seen("running", tap="tap0", here=False, vmm="qemu", guest=self.report)

    def console(self) -> str:
        return ""

    def remove(self) -> str:
        return ""

    def clear(self) -> str:
        return ""


def hops(bird: Bird, made: Context) -> Iterator[tuple[str, str]]:
    for proof in canary.fly(made, FakeHost.debian12(), bird, lambda text: None):
        if proof.hop in ("lease", "gateway"):
            yield proof.hop, proof.verdict


@pytest.mark.parametrize(
    ("report", "gateway"),
    [
        ({"gateway_reachable": True}, "passed"),
        ({"gateway_reachable": None}, "passed"),
        ({"gateway_reachable": False}, "failed"),
        ({"gateway_reachable": None, "gateway": ""}, "unproven"),
    ],
)
def test_the_canary_proves_an_address_of_the_lan_and_a_gateway_that_answers(report: dict[str, Any], gateway: str) -> None:
    """A LAN's router may drop connections to itself. Its answer to ARP proves it all the same, and only in bridged mode."""
    assert dict(hops(Bird(**report), context())) == {"lease": "passed", "gateway": gateway}
    nat = replace(context(), settings=Settings())
    silent = dict(hops(Bird(gateway_reachable=None, ip="10.0.0.20"), nat))
    assert silent["gateway"] == "unproven"


def test_the_plan_can_be_written_down() -> None:
    assert json.dumps([step.describe() for phase in planner.plan(context()).phases for step in phase.steps])
