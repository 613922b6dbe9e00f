"""The rules that keep guests from the host: also for IPv6, with limits if the kernel supports them, and after an upgrade."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.documentation import pages
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted
from tests.unit.installer.verbs.network.test_making_way import Strict

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.proofs.hops import run_hop
from nqrust.installer.proofs.standing import standing
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.resources.dnsmasq import QUERIES_AT_ONCE, dnsmasq_conf
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.firewall import bounds, words
from nqrust.installer.verbs.firewall.rules import Chain, FirewallSpec, IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network, vm_network_ipv6

NOW = vm_network("fcbr0", "10.0.0.0/24", "10.0.0.1", dns=True, tcp_ports=(19091,))
IPV6 = vm_network_ipv6("fcbr0")
FORMER = FirewallSpec(
    (
        Chain(
            "filter",
            "NQR-FORWARD",
            "FORWARD",
            (
                ("-i", "fcbr0", "-o", "fcbr0", "-j", "ACCEPT"),
                ("-s", "10.0.0.0/24", "-i", "fcbr0", "-j", "ACCEPT"),
                ("-i", "fcbr0", "-j", "DROP"),
            ),
        ),
        Chain("filter", "NQR-INPUT", "INPUT", (("-i", "fcbr0", "-j", "DROP"),)),
        Chain("nat", "NQR-POSTROUTING", "POSTROUTING", (("-s", "10.0.0.0/24", "!", "-o", "fcbr0", "-j", "MASQUERADE"),)),
    ),
    NOW.others,
)
"""Rules that version 0.1.0 left on hosts."""


class Both(Strict):
    """Provide ip6tables(8) too, with its own tables."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host)
        raw = {"PREROUTING": [], "OUTPUT": []}
        host.memory["rules6"] = {"filter": {"INPUT": [], "FORWARD": [], "OUTPUT": []}, "raw": raw}
        host.put("/proc/net/if_inet6", "")
        host.on("ip6tables", prefix=True, answer=lambda h, c: self.of_ipv6(self.run, c), changes=False)
        host.on("ip6tables-restore", prefix=True, answer=lambda h, c: self.of_ipv6(self.restore, c))

    def of_ipv6(self, answer: Any, cmd: Command) -> Any:
        memory = self.host.memory
        memory["rules"], memory["rules6"] = memory["rules6"], memory["rules"]
        try:
            return answer(self.host, cmd)
        finally:
            memory["rules"], memory["rules6"] = memory["rules6"], memory["rules"]


def left(host: FakeHost) -> list[str]:
    both = (*host.memory["rules"].values(), *host.memory["rules6"].values())
    return [f"{chain} {rules}" for table in both for chain, rules in table.items() if "NQR" in f"{chain} {rules}"]


def test_an_install_over_the_former_rules_adds_the_new_ones_and_leaves_no_trace() -> None:
    host = FakeHost.debian12()
    Both(host)
    _, first = applied(host, IptablesRules(FORMER))
    before = json.dumps(host.memory["rules"], sort_keys=True)
    diff = planned(host, IptablesRules(NOW))
    assert any("169.254.0.0/16" in line for line in diff) and any("hashlimit" in line for line in diff)
    _, second = applied(host, IptablesRules(NOW))
    _, third = applied(host, IptablesRules(IPV6))
    assert host.memory["rules6"]["filter"]["NQR-INPUT"] == [["-i", "fcbr0", "-j", "DROP"]]
    assert isinstance(IptablesRules(NOW).inspect(host), Satisfied) and isinstance(IptablesRules(IPV6).inspect(host), Satisfied)
    reverted(host, third)
    reverted(host, second)
    assert json.dumps(host.memory["rules"], sort_keys=True) == before
    reverted(host, first)
    assert left(host) == []


def test_the_plan_tells_of_ipv6_and_its_undo_too() -> None:
    host = FakeHost.debian12()
    Both(host)
    context = Context(
        settings=Settings(),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    steps = [step for phase in planner.plan(context).phases for step in phase.steps if isinstance(step, IptablesRules)]
    assert [step.id for step in steps] == ["firewall:iptables", "firewall:ip6tables"]
    assert steps[1].describe() == "add firewall chains NQR-FORWARD, NQR-INPUT for IPv6"
    (undo,) = steps[1].prepare(host).undo
    assert words.rules(undo.args) == "remove the firewall chains NQR-FORWARD, NQR-INPUT, NQR-SOURCE for IPv6"


@pytest.mark.parametrize("lack", ["IPv6 is off", "no program", "no table"])
def test_a_host_without_ipv6_or_its_filter_is_told_and_does_not_fail(lack: str) -> None:
    host = FakeHost.debian12()
    Both(host)
    if lack == "IPv6 is off":
        host.tree.detach("/proc/net/if_inet6")
    elif lack == "no program":
        host.uninstall("ip6tables")
    else:
        host.on("ip6tables", "-w", "-t", "filter", "-S", answer=lambda h, c: Completed(c.argv, 3, "", "can't initialize"))
    found = IptablesRules(IPV6).inspect(host)
    assert isinstance(found, Satisfied) and found.note


def test_ipv6_is_planned_while_its_program_is_still_to_come() -> None:
    host = FakeHost.debian12()
    Both(host)
    host.uninstall("ip6tables")
    host.uninstall("iptables")
    assert planned(host, IptablesRules(IPV6))


@pytest.mark.parametrize("match", ["hashlimit", "connlimit"])
def test_a_kernel_without_a_match_gets_the_other_rules(match: str) -> None:
    host = FakeHost.debian12()
    tables = Both(host)

    def restore(host: FakeHost, cmd: Command) -> None:
        assert isinstance(cmd.input, bytes)
        if match.encode() in cmd.input:
            raise CommandFailed(cmd.argv, 2, f"Couldn't load match `{match}'")
        tables.restore(host, cmd)

    host.on("iptables-restore", prefix=True, answer=restore)
    applied(host, IptablesRules(NOW))
    rules = host.memory["rules"]["filter"]["NQR-FORWARD"]
    assert ["-d", "169.254.0.0/16", "-i", "fcbr0", "-j", "DROP"] in rules and not any(match in rule for rule in rules)
    host.put("/proc/net/ip_tables_matches", "conntrack\nhashlimit\nconnlimit\n")
    assert any(match in line for line in planned(host, IptablesRules(NOW))), "a kernel that has it by now gets them"


@pytest.mark.parametrize(
    ("check", "matches", "ipv6", "verdict", "words"),
    [
        (0, "hashlimit\nconnlimit\n", True, "passed", "nothing over IPv6"),
        (0, "hashlimit\nconnlimit\n", False, "passed", "IPv6 is off"),
        (0, "hashlimit\n", True, "unproven", "lacks the match connlimit"),
        (1, "", True, "failed", "are missing"),
        (2, "", True, "unproven", "earlier version"),
    ],
)
def test_doctor_and_verify_tell_what_this_kernel_cannot_do(
    check: int, matches: str, ipv6: bool, verdict: str, words: str
) -> None:
    host = FakeHost.debian12()
    Both(host)
    host.memory["rules"]["filter"]["NQR-INPUT"] = [["-m", match, "-j", "DROP"] for match in matches.split()]
    if not ipv6:
        host.tree.detach("/proc/net/if_inet6")
    script = "/opt/nqrust-microvm/libexec/nqrust-network"
    host.install(script)
    host.on(script, "check", answer=lambda h, c: Completed(c.argv, check, "", ""))
    context = Context(
        settings=Settings(),
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )
    (hop,) = [one for one in standing(context, host) if one.name == "firewall"]
    proof = run_hop(hop, host)
    assert proof.verdict == verdict and words in proof.detail, proof
    host.put("/sys/class/net/tap0123456789a/tun_flags", "0x5002\n")
    if verdict == "passed":
        assert run_hop(hop, host).verdict == "unproven", "the host does not finish the frames of that VM first"


def test_few_guests_cannot_have_all_queries_that_wait_for_an_answer() -> None:
    network = Settings().network
    text = dnsmasq_conf(network, dns=True)
    assert f"\ndns-forward-max={QUERIES_AT_ONCE}\n" in text
    waiting = {name: 10 * a_second + at_once for name, (a_second, at_once) in
               {"one": bounds.OF_ONE, "all": bounds.OF_ALL, "beyond": bounds.BEYOND}.items()}  # fmt: skip
    assert waiting["one"] <= waiting["all"] <= QUERIES_AT_ONCE // 2, "within dnsmasq's 10 s"
    guests = (QUERIES_AT_ONCE - waiting["all"]) // waiting["beyond"]
    calls = bounds.CONNECTIONS_OF_ALL // bounds.CONNECTIONS_OF_ONE + 20 - bounds.CONNECTIONS_OF_ALL
    assert f"{guests} hostile guests to use up the queries, and {calls} to" in pages.text("docs/reference/known-issues.md")
    page, of_all, beyond = pages.text("docs/understand/security.md"), bounds.OF_ALL, bounds.BEYOND
    assert f"{of_all[0]} names per second, burst {of_all[1]}" in page and beyond[0] == 1
    assert f"one query per second, burst {beyond[1]}" in page and bounds.CONNECTIONS_BEYOND == 1
    assert f"more than {bounds.CONNECTIONS_OF_ALL} open DNS connections over TCP" in page
    told = dnsmasq_conf(network, dns=False, nameservers=("169.254.169.253", "127.0.0.53", "192.0.2.53"))
    assert "dhcp-option=option:dns-server,192.0.2.53\n" in told and "169.254" not in told


def test_the_security_page_has_the_figures_of_the_rules() -> None:
    page = pages.text("docs/understand/security.md")
    rules = {f"{chain.name} {' '.join(rule)}" for chain in NOW.chains for rule in chain.rules}
    for chain, where, what, limit in (
        (
            "FORWARD",
            "--hashlimit-above 200/sec --hashlimit-burst 1000 ",
            "new connections to other machines",
            "200 per second, burst 1000",
        ),
        ("FORWARD", "--connlimit-above 4096 ", "open connections to other machines", "4096"),
        (
            "FORWARD",
            "udp -m conntrack --ctstate NEW ! --ctstatus CONFIRMED -m hashlimit --hashlimit-above 25/sec --hashlimit-burst 200 ",
            "new connections over UDP to one port of another machine",
            "25 per second, burst 200",
        ),
        ("INPUT", "--hashlimit-above 100/sec --hashlimit-burst 300 ", "new connections to the host", "100 per second, burst 300"),
        (
            "INPUT",
            "udp --dport 53 -m hashlimit --hashlimit-above 50/sec --hashlimit-burst 200 ",
            "DNS queries over UDP",
            "50 per second, burst 200",
        ),
        ("INPUT", "tcp --dport 53 -m connlimit --connlimit-above 2 ", "open DNS connections over TCP", "2"),
        ("INPUT", "--dport 19091 -m connlimit --connlimit-above 16 ", "open connections to the relay", "16"),
    ):
        assert any(rule.startswith(f"NQR-{chain} ") and where in rule and rule.endswith("-j DROP") for rule in rules), where
        assert f"| {what} | {limit}" in page
