"""Facts in, findings out: what refuses, what only warns, and in which mode."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from tests.unit.installer.phases.a_host import disk, fit, network

from nqrust.host.facts.model import (
    Cpu,
    Facts,
    Kernel,
    Kvm,
    Link,
    ListeningPort,
    Memory,
    Os,
    PostgresCluster,
    Route,
)
from nqrust.host.fake import FakeHost
from nqrust.host.secret import Secret
from nqrust.installer.phases.preflight.findings import Severity
from nqrust.installer.phases.preflight.run import Situation, run
from nqrust.installer.settings import Settings

NO_KVM = Kvm(present=False, usable=False, reason="/dev/kvm is missing")


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


def held(port: int, address: str = "0.0.0.0", protocol: str = "tcp", process: str = "nginx") -> dict[str, Any]:
    return {"ports": (ListeningPort(protocol, address, port, 812, process),)}


class Row(NamedTuple):
    name: str
    facts: Facts
    expected: set[str]
    """`error NQR-...`, `warning NQR-...`, `info NQR-...`; exactly these."""
    given: Settings = Settings()
    says: str = ""


ROWS = [
    Row("a fit host", fit(), set()),
    Row("Ubuntu 22.04", fit(os=Os("ubuntu", "22.04", ("debian",))), set()),
    Row("Rocky 9 is kin of RHEL", fit(os=Os("rocky", "9.3", ("rhel", "centos", "fedora"))), set()),
    Row("Debian 10", fit(os=Os("debian", "10")), {"error NQR-PRE-002"}, says="10"),
    Row("Ubuntu 20.04", fit(os=Os("ubuntu", "20.04", ("debian",))), {"error NQR-PRE-002"}, says="20.04"),
    Row("Arch", fit(os=Os("arch", "")), {"error NQR-PRE-002"}, says="arch"),
    Row("aarch64", fit(kernel=Kernel("6.1.0", (6, 1), "aarch64")), {"error NQR-PRE-003"}, says="aarch64"),
    Row("kernel 4.9", fit(kernel=Kernel("4.9.0-19-amd64", (4, 9), "x86_64")), {"error NQR-PRE-004"}, says="4.9.0-19-amd64"),
    Row("1 GiB", fit(memory=Memory(1000, 800)), {"error NQR-PRE-005"}, says="1000 MiB"),
    Row("2 GB as vendors count", fit(memory=Memory(2001, 1800)), set()),
    Row("10 GB disk", fit(file_systems=(disk("/srv/fc", total=10_000),)), {"error NQR-PRE-006"}, says="/srv/fc"),
    Row("a full disk", fit(file_systems=(disk("/srv/fc", free=2_000),)), {"error NQR-PRE-006"}, says="2000 MiB"),
    Row("no inodes", fit(file_systems=(disk("/srv/fc", inodes=100),)), {"error NQR-PRE-018"}, says="inodes"),
    Row("read-only", fit(file_systems=(disk("/opt/nqrust-microvm", read_only=True),)), {"error NQR-PRE-018"}, says="read-only"),
    Row("no KVM", fit(kvm=NO_KVM), {"warning NQR-PRE-009"}, says="emulation"),
    Row("no KVM, but Firecracker is wanted", fit(kvm=NO_KVM), {"error NQR-PRE-009"}, settings(vmm="firecracker")),
    Row("no KVM on a manager", fit(kvm=NO_KVM, cpu=Cpu("other", "x", 2)), set(), settings(mode="manager")),
    Row("flags hidden", fit(cpu=Cpu("other", "x", 2)), {"warning NQR-PRE-008"}, says="canary"),
    Row("clock in 1970", fit(clock_utc=100.0), {"error NQR-PRE-017"}, says="clock"),
    Row("clock not synchronised", fit(clock_synchronised=False), {"info NQR-PRE-017"}),
    Row("manager's port held", fit(**held(18080)), {"error NQR-PRE-007"}, says="nginx (process 812)"),
    Row("agent's port held", fit(**held(19090, "127.0.0.1")), {"error NQR-PRE-007"}, says="19090"),
    Row("UI's port held", fit(**held(3000, "::")), {"error NQR-PRE-007"}, says="3000"),
    Row("no UI, so its port does not matter", fit(**held(3000)), set(), settings(mode="minimal")),
    Row("another port was chosen", fit(**held(18080)), set(), settings(manager={"bind": "0.0.0.0:18081"})),
    Row("held on another address", fit(**held(18080, "192.0.2.10")), set(), settings(manager={"bind": "127.0.0.1:18080"})),
    Row("the same number in UDP", fit(**held(18080, protocol="udp")), set()),
    Row("5432 held by something else", fit(**held(5432, "127.0.0.1", process="docker-proxy")), {"warning NQR-PRE-026"}, says="docker-proxy"),
    Row("5432 held by the cluster", fit(postgres=(PostgresCluster(15, "main", 5432, True, "postgres", "/d"),),
                                        **held(5432, "127.0.0.1", process="postgres")), set()),
    Row("the VM network is in use", fit(network=network(Link("eth1", "", True, "x", addresses=("10.0.0.7/8",)))), {"error NQR-PRE-020"}, says="eth1"),
    Row("the VM network is routed", fit(network=network(routes=(Route("10.0.0.0/16", "wg0"),))), {"error NQR-PRE-020"}, says="wg0"),
    Row("our bridge is there", fit(network=network(Link("fcbr0", "bridge", True, "x", addresses=("10.0.0.1/24",)),
                                                   routes=(Route("10.0.0.0/24", "fcbr0"),))), set()),
    Row("the bridge's name is taken", fit(network=network(Link("fcbr0", "", True, "x"))), {"error NQR-PRE-028"}, says="no bridge"),
    Row("a bridge with another address", fit(network=network(Link("fcbr0", "bridge", True, "x", addresses=("172.16.0.1/24",)))),
        {"error NQR-PRE-028"}, says="172.16.0.1/24"),
    Row("Docker, ufw and libvirt", fit(network=network(firewalls=("docker", "ufw", "libvirt"))),
        {"info NQR-PRE-012", "info NQR-PRE-014", "info NQR-PRE-011"}),
    Row("a DHCP server everywhere", fit(**held(67, protocol="udp", process="dnsmasq")), {"warning NQR-PRE-013"}, says="dnsmasq"),
    Row("bridged without a bridge", fit(), {"error NQR-NET-130"}, settings(network={"mode": "bridged"})),
    Row("bridged without an uplink", fit(), {"error NQR-NET-130", "error NQR-PRE-031"}, settings(network={"mode": "bridged", "uplink": "eth9"}), "eth9"),
    Row("a remote database without a password", fit(), {"error NQR-DB-010"}, settings(database={"type": "remote", "host": "db1"})),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_findings(row: Row) -> None:
    found = run(row.given, row.facts, FakeHost.debian12(), Situation())
    assert {f"{f.severity.value} {f.code}" for f in found} == row.expected
    assert row.says in " ".join(f.what for f in found)
    assert all(f.cure for f in found if f.severity is Severity.error), "every refusal comes with a cure"


def test_every_check_runs_and_errors_come_first() -> None:
    bad = fit(os=Os("arch", ""), memory=Memory(100, 50), kvm=NO_KVM, **held(18080))
    found = run(Settings(), bad, FakeHost.debian12(), Situation())
    assert [f.severity.value for f in found] == ["error", "error", "error", "warning"]


def test_an_ignored_error_warns() -> None:
    found = run(Settings(), fit(memory=Memory(100, 50)), FakeHost.debian12(), Situation(), ("NQR-PRE-005",))
    assert [(f.severity, f.code) for f in found] == [(Severity.warning, "NQR-PRE-005")]


def test_the_ports_of_what_is_installed_are_ours() -> None:
    assert run(Settings(), fit(**held(18080)), FakeHost.debian12(), Situation(installed=Settings(), known=True)) == []


def test_anothers_installation_refuses_and_ours_does_not() -> None:
    host = FakeHost.debian12()
    host.put("/opt/nqrust-microvm/bin/manager", "")
    host.put("/etc/systemd/system/nqrust-agent.service", "")
    found = run(Settings(), fit(), host, Situation())
    assert [f.code for f in found] == ["NQR-PRE-015"] * 2 and "systemctl disable" in found[1].cure
    assert run(Settings(), fit(), host, Situation(known=True)) == []


@pytest.mark.parametrize(
    "path, says",
    [
        ("/etc/nqrust-microvm/manager.env", "manager.env"),
        ("/var/lib/nqrust-microvm/theirs", "theirs"),
        ("/usr/lib/systemd/system/nqrust-ui.service", "/usr/lib/systemd/system/nqrust-ui.service"),
        ("/etc/systemd/system/nqrust-network.service", "nqrust-network.service"),
    ],
)
def test_what_another_left_in_our_places_refuses(path: str, says: str) -> None:
    host = FakeHost.debian12()
    host.put(path, "")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-015" and found.severity is Severity.error and says in found.what
    assert run(Settings(), fit(), host, Situation(known=True)) == []


def test_a_run_that_was_cut_off_before_its_first_record_is_no_installation_of_another() -> None:
    host = FakeHost.debian12()
    host.put("/var/lib/nqrust-microvm/fingerprint.json.gz", "")
    host.put("/etc/nqrust-microvm/config.yaml", "")
    assert run(Settings(), fit(), host, Situation()) == []


@pytest.mark.parametrize(
    "path, mode, owner, group, refused",
    [
        ("/srv/images", 0o755, "root", "root", False),
        ("/srv/images", 0o2775, "root", "root", False),
        ("/srv/images", 0o2775, "root", "100", True),
        ("/srv/images", 0o777, "root", "root", True),
        ("/srv/images", 0o755, "1000", "1000", True),
        ("/srv/fc", 0o751, "1000", "1000", False),
        ("/srv/fc", 0o700, "root", "root", False),
    ],
)
def test_folders_of_others(path: str, mode: int, owner: str, group: str, refused: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory(path, mode=mode, owner=owner, group=group)
    found = run(Settings(), fit(), host, Situation())
    assert [f.code for f in found] == ["NQR-PRE-033"] * refused
    assert run(Settings(), fit(), host, Situation(known=True)) == []


@pytest.mark.parametrize("line", ["net.ipv4.ip_forward=0", "  -net/ipv4/ip_forward = 0"])
def test_forwarding_that_was_turned_off_is_told(line: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/sysctl.d/99-alice.conf", f"# no router\n{line}\n")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-034" and found.severity is Severity.warning and "99-alice.conf" in found.what
    assert run(settings(network={"mode": "isolated"}), fit(), host, Situation()) == []
    host.put("/etc/sysctl.d/99-alice.conf", "#net.ipv4.ip_forward=0\nnet.ipv4.ip_forward=1\n")
    assert run(Settings(), fit(), host, Situation()) == []


def test_chains_that_drop_beside_iptables_are_told() -> None:
    host = FakeHost.debian12()
    host.install("nft")
    chain = {"family": "inet", "table": "strict", "name": "input", "hook": "input", "policy": "drop"}
    listed: list[dict[str, Any]] = [
        {"metainfo": {"version": "1.0.6"}},
        {"chain": chain},
        {"chain": {**chain, "name": "output", "hook": "output"}},
        {"chain": {**chain, "name": "mild", "policy": "accept"}},
        {"chain": {**chain, "family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward"}},  # of iptables-nft
        {"chain": {"family": "inet", "table": "strict", "name": "no_base_chain"}},
    ]
    host.on("nft", "--json", "list", "chains", answer=json.dumps({"nftables": listed}))
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-035" and found.severity is Severity.warning
    assert "inet strict input" in found.what and "`nft insert rule inet strict input iifname fcbr0 accept`" in found.cure
    assert run(Settings(), fit(), host, Situation(known=True)) == []
    assert run(settings(mode="manager"), fit(), host, Situation()) == []
    host.on("nft", "--json", "list", "chains", answer="")
    assert run(Settings(), fit(), host, Situation()) == []


def test_a_cluster_on_another_port_is_used_unless_the_port_was_chosen() -> None:
    facts = fit(postgres=(PostgresCluster(15, "main", 5433, True, "postgres", "/d"),))
    assert run(Settings(), facts, FakeHost.debian12(), Situation()) == []
    (found,) = run(Settings(), facts, FakeHost.debian12(), Situation(explicit=frozenset({"database.port"})))
    assert found.code == "NQR-PRE-026" and found.severity is Severity.error and "5433" in found.what


AGENT = settings(mode="agent", agent={"manager_base": "http://m1:18080"})
HEALTH, CHECK = "http://m1:18080/health", "http://m1:18080/v1/hosts/join-check"


def joining(health: Any, check: Any = None, token: str | None = "nqr_x", registered: bool = False) -> list[str]:
    host = FakeHost.debian12()
    for url, page in ((HEALTH, health), (CHECK, check)):
        if page is not None:
            host.pages[url] = page
    situation = Situation(join_token=Secret(token) if token else None, agent_token=Secret("agt") if registered else None)
    return [f.code for f in run(AGENT, fit(), host, situation)]


def test_an_agent_needs_a_manager_that_takes_its_token() -> None:
    well = (200, b'{"status":"ok","version":"1"}')
    assert joining(well, (204, b"")) == []
    assert joining(well, (401, b"{}")) == ["NQR-PRE-025"]
    assert joining(well, (403, b"{}")) == ["NQR-PRE-025"]
    assert joining(well, token=None) == ["NQR-PRE-025"]
    assert joining(well, registered=True, token=None) == [], "it joined before and needs none"
    for sick in ((500, b""), (200, b"<html>"), (200, b"[]"), None):
        assert joining(sick) == ["NQR-PRE-024"], sick
