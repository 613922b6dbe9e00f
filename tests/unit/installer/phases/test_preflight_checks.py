"""Facts in, findings out: errors and warnings, in each mode."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import disk, fit, network
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

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
from nqrust.host.secret import Secret
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.distro.model import OPTIONAL_ROLES, Distro
from nqrust.installer.distro.registry import DISTROS
from nqrust.installer.phases.deps import roles
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings

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
    Row("no KVM on a manager", fit(kvm=NO_KVM, cpu=Cpu(2)), set(), settings(mode="manager")),
    Row("flags hidden", fit(cpu=Cpu(2)), {"warning NQR-PRE-008"}, says="A test VM will check"),
    Row("clock in 1970", fit(clock_utc=100.0), {"error NQR-PRE-017"}, says="clock"),
    Row("clock not synchronised", fit(clock_synchronised=False), {"info NQR-PRE-017"}),
    Row("manager's port held", fit(**held(18080)), {"error NQR-PRE-007"}, says="nginx (process 812)"),
    Row("agent's port held", fit(**held(19090, "127.0.0.1")), {"error NQR-PRE-007"}, says="19090"),
    Row("UI's port held", fit(**held(3000, "::")), {"error NQR-PRE-007"}, says="3000"),
    Row("no UI, so its port does not matter", fit(**held(3000)), set(), settings(mode="minimal")),
    Row("another port was chosen", fit(**held(18080)), set(), settings(manager={"bind": "0.0.0.0:18081"})),
    Row("held on another address", fit(**held(18080, "192.0.2.10")), set(), settings(manager={"bind": "127.0.0.1:18080"})),
    Row("held on loopback, where each service listens too", fit(**held(18080, "127.0.0.1")),
        {"error NQR-PRE-007"}, settings(mode="minimal", manager={"bind": "10.0.0.1:18080"}), says="18080"),
    Row("the same number in UDP", fit(**held(18080, protocol="udp")), set()),
    Row("5432 held by something else", fit(**held(5432, "127.0.0.1", process="docker-proxy")), {"warning NQR-PRE-026"}, says="docker-proxy"),
    Row("5432 held by the cluster", fit(postgres=(PostgresCluster(15, "main", 5432, True, "postgres", "/d"),),
                                        **held(5432, "127.0.0.1", process="postgres")), set()),
    Row("the VM network is in use", fit(network=network(Link("eth1", "", True, "x", addresses=("10.0.0.7/8",)))), {"error NQR-PRE-020"}, says="eth1"),
    Row("the VM network is routed", fit(network=network(routes=(Route("10.0.0.0/16", "wg0"),))), {"error NQR-PRE-020"}, says="wg0"),
    Row("our bridge is there", fit(network=network(Link("fcbr0", "bridge", True, "x", addresses=("10.0.0.1/24",)),
                                                   routes=(Route("10.0.0.0/24", "fcbr0"),))), set()),
    Row("the bridge's name is taken", fit(network=network(Link("fcbr0", "", True, "x"))), {"error NQR-PRE-028"}, says="not a bridge"),
    Row("a bridge with another address", fit(network=network(Link("fcbr0", "bridge", True, "x", addresses=("172.16.0.1/24",)))),
        {"error NQR-PRE-028"}, says="172.16.0.1/24"),
    Row("Docker, ufw and libvirt", fit(network=network(firewalls=("docker", "ufw", "libvirt"))),
        {"info NQR-PRE-012", "info NQR-PRE-014", "info NQR-PRE-011"}),
    Row("a DHCP server everywhere", fit(**held(67, protocol="udp", process="dnsmasq")), {"warning NQR-PRE-013"}, says="dnsmasq"),
    Row("bridged without a bridge", fit(), {"error NQR-NET-150"}, settings(network={"mode": "bridged"})),
    Row("bridged with a bridge without an address", fit(network=network(Link("br0", "bridge", True, "x"), Link("eth1", "", True, "y", master="br0"))),
        {"error NQR-NET-138"}, settings(network={"mode": "bridged", "bridge_name": "br0"})),
    Row("bridged without an uplink", fit(), {"error NQR-PRE-031"}, settings(network={"mode": "bridged", "uplink": "eth9"}), "eth9"),
    Row("bridged on a manager, where no VM runs", fit(), set(), settings(mode="manager", network={"mode": "bridged"})),
    Row("an uplink that is not there", fit(), {"error NQR-PRE-031"}, settings(network={"uplink": "eth9"}), "eth9"),
    Row("an uplink that is there", fit(), set(), settings(network={"uplink": "eth0"})),
    Row("a release from an address", fit(), set(), settings(release={"source": "https://x/v1"})),
    Row("a bundle, with a key", fit(), set(), settings(release={"source": "/m/b.tar.zst", "public_key": "/root/key.pem"})),
    Row("a key for nothing", fit(), {"error NQR-REL-051"}, settings(release={"public_key": "/root/key.pem"}), "/root/key.pem"),
    Row("nested, and no module takes the option", fit(kernel=Kernel("6.1.0", (6, 1), "x86_64"), kvm=Kvm(True, True, nested=False)),
        {"error NQR-PRE-051"}, settings(nested=True)),
    Row("nested, and it is on already", fit(kernel=Kernel("6.1.0", (6, 1), "x86_64"), kvm=Kvm(True, True, nested=True)), set(), settings(nested=True)),
    Row("nested, after a reboot", fit(kvm=Kvm(True, True, nested=False)), {"warning NQR-PRE-010"}, settings(nested=True)),
    Row("nested on a manager, where no VM runs", fit(kernel=Kernel("6.1.0", (6, 1), "x86_64")), set(), settings(mode="manager", nested=True)),
    Row("the manager on another's address", fit(), {"error NQR-PRE-052"}, settings(manager={"bind": "198.51.100.7:18080"}), "198.51.100.7"),
    Row("the agent on another's address", fit(), {"error NQR-PRE-052"}, settings(agent={"bind": "198.51.100.7:19090"}), "agent"),
    Row("the UI on another's IPv6 address", fit(), {"error NQR-PRE-052"}, settings(ui={"bind": "[2001:db8::7]:3000"}), "web UI"),
    Row("the UI on another's address, without a UI", fit(), set(), settings(mode="minimal", ui={"bind": "198.51.100.7:3000"})),
    Row("on this host's address, on loopback and on all", fit(), set(),
        settings(manager={"bind": "192.0.2.10:18080"}, agent={"bind": "127.0.0.2:19090"}, ui={"bind": "[::]:3000"})),
    Row("on the VM bridge, which comes with the install", fit(), set(), settings(manager={"bind": "10.0.0.1:18080"})),
    Row("addresses that cannot be read", fit(network=replace(fit().network, links=())), set(), settings(manager={"bind": "198.51.100.7:18080"})),
    Row("the role of the PostgreSQL that the packages will bring", fit(), {"error NQR-DB-115"}, settings(database={"user": "postgres"}), "postgres"),
    Row("the role that owns the cluster", fit(postgres=(PostgresCluster(15, "main", 5432, True, "pg15", "/d"),)), {"error NQR-DB-115"},
        settings(database={"user": "pg15"}), "pg15"),
    Row("postgres on another host", fit(), {"warning NQR-DB-261", "error NQR-DB-010"},
        settings(database={"type": "remote", "host": "db1", "user": "postgres"})),
    Row("a remote database without a password or an authority", fit(), {"warning NQR-DB-261", "error NQR-DB-010"},
        settings(database={"type": "remote", "host": "db1"})),
    Row("a database behind a tunnel that ends here", fit(), {"error NQR-DB-010"}, settings(database={"type": "remote", "host": "::1"})),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_preflight_finds_what_each_row_names(row: Row) -> None:
    host = FakeHost.debian12()
    host.on(sys.executable, prefix=True)  # every port can be shared
    found = run(row.given, row.facts, host, Situation())
    assert {f"{f.severity.value} {f.code}" for f in found} == row.expected
    assert row.says in " ".join(f.what for f in found)
    assert all(f.cure for f in found if f.severity is Severity.error), "every refusal comes with a cure"


WELL = (200, b'{"status":"ok","version":"1"}')
AGENTS = [
    ("an agent", {}, set()),
    ("on its own address", {"advertise_address": "192.0.2.10", "bind": "192.0.2.10:19090"}, set()),
    ("behind a router", {"advertise_address": "203.0.113.9"}, {"warning NQR-PRE-053"}),
    ("at a name", {"advertise_address": "kvm1.example"}, set()),
    ("advertises loopback", {"advertise_address": "127.0.0.1"}, {"error NQR-PRE-053"}),
    ("listens on loopback", {"bind": "127.0.0.1:19090"}, {"error NQR-PRE-053"}),
    ("with its manager on loopback", {"bind": "127.0.0.1:19090", "manager_base": "http://127.0.0.1:18080"}, set()),
]


@pytest.mark.parametrize(("name", "agent", "expected"), AGENTS, ids=[row[0] for row in AGENTS])
def test_an_agent_must_be_reachable_from_its_manager(name: str, agent: dict[str, str], expected: set[str]) -> None:
    host = FakeHost.debian12()
    given = settings(mode="agent", agent={"manager_base": "http://m1:18080", **agent})
    host.pages[f"{given.agent.manager_base}/health"] = WELL
    found = run(given, fit(), host, Situation(agent_token=Secret("joined")))
    assert {f"{f.severity.value} {f.code}" for f in found} == expected


@pytest.mark.parametrize("path", ["/etc", "/usr/local", "/var/cache", "/var/log"])
def test_small_file_systems_must_be_writable(path: str) -> None:
    host = FakeHost.debian12()
    host.usages[path] = replace(host.usage, read_only=True, mount_point=path)
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-018" and path in found.what


def test_programs_must_be_allowed_to_run() -> None:
    host = FakeHost.debian12()
    host.usages["/opt"] = replace(host.usage, noexec=True, mount_point="/opt")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-050" and "mount -o remount,exec /opt" in found.cure
    assert run(settings(paths={"install_dir": "/srv/nqrust"}), fit(), host, Situation()) == []


def test_there_must_be_room_for_what_is_planned() -> None:
    host = FakeHost.debian12()
    host.usages["/var/cache"] = replace(host.usage, available=1000 << 20)
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-006" and "1000 MiB" in found.what
    assert run(Settings(), fit(), host, Situation(known=True)) == [], "the cache is filled"
    host = FakeHost.debian12()
    host.usages["/srv"] = replace(host.usage, available=3500 << 20)
    assert run(Settings(), fit(), host, Situation()) == []
    box = settings(components={"container_runtime": True})
    (found,) = run(box, fit(), host, Situation())
    assert found.code == "NQR-PRE-006" and "container runtime" in found.what and "3500 MiB" in found.what
    host.put("/srv/images/container-runtime/image.json", "{}")
    assert run(box, fit(), host, Situation()) == [], "it is built already"


@pytest.mark.parametrize("path", ["/srv/fc", "/etc/nqrust-microvm", "/var/lib/nqrust-microvm"])
def test_a_file_in_place_of_a_folder_refuses(path: str) -> None:
    host = FakeHost.debian12()
    host.put(path, "")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-054" and path in found.what


@pytest.mark.parametrize(
    "given", [{"release": {"public_key": "/root/key.pem"}}, {"network": {"mode": "bridged"}}], ids=["release", "bridged"]
)
def test_impossible_install_cannot_be_forced(given: dict[str, Any]) -> None:
    found = run(settings(**given), fit(), FakeHost.debian12(), Situation(), ("NQR-REL-051", "NQR-NET-150"))
    assert [f.severity for f in found] == [Severity.error]


@pytest.mark.parametrize("mode", ["production", "dev", "minimal", "manager", "agent"])
@pytest.mark.parametrize("distro", DISTROS, ids=lambda d: d.id)
def test_every_distribution_has_every_package_that_an_install_asks_for(distro: Distro, mode: str) -> None:
    """Optional ones have a check of their own (NQR-PRE-032)."""
    wanted = roles(Context(settings=settings(mode=mode, database={"type": "remote", "host": "d"}, components={"container_runtime": True}),
                           facts=fit(), secrets=SECRETS, files=ReleaseFiles(RELEASE, "/x"), build_roles=("rust",),
                           python=Interpreter("/usr/bin/python3", "3.11", "/usr/bin/python3")))  # fmt: skip
    assert set(wanted) - set(distro.packages) <= set(OPTIONAL_ROLES)


def test_every_check_runs_and_errors_come_first() -> None:
    bad = fit(os=Os("arch", ""), memory=Memory(100, 50), kvm=NO_KVM, **held(18080))
    found = run(Settings(), bad, FakeHost.debian12(), Situation())
    assert [f.severity.value for f in found] == ["error", "error", "error", "warning"]


def test_an_ignored_error_warns() -> None:
    found = run(Settings(), fit(memory=Memory(100, 50)), FakeHost.debian12(), Situation(), ("NQR-PRE-005",))
    assert [(f.severity, f.code) for f in found] == [(Severity.warning, "NQR-PRE-005")]


def test_a_remote_database_with_an_authority_needs_no_warning() -> None:
    found = run(
        settings(database={"type": "remote", "host": "db1"}), fit(), FakeHost.debian12(), Situation(database_ca="/root/ca.pem")
    )
    assert [one.code for one in found] == ["NQR-DB-010"]


def test_ports_of_the_installation_are_not_reported_as_taken() -> None:
    assert run(Settings(), fit(**held(18080)), FakeHost.debian12(), Situation(installed=Settings(), known=True)) == []


def test_foreign_installation_refuses_and_a_recorded_one_does_not() -> None:
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
def test_foreign_file_in_a_product_path_refuses(path: str, says: str) -> None:
    host = FakeHost.debian12()
    host.put(path, "")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-015" and found.severity is Severity.error and says in found.what
    assert run(Settings(), fit(), host, Situation(known=True)) == []


def test_run_killed_before_its_first_record_is_no_foreign_installation() -> None:
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
        ("/srv/fc", 0o711, "root", "1000", False),
    ],
)
def test_folder_that_other_users_can_write_refuses(path: str, mode: int, owner: str, group: str, refused: bool) -> None:
    host = FakeHost.debian12()
    host.put_directory(path, mode=mode, owner=owner, group=group)
    found = run(Settings(), fit(), host, Situation())
    assert [f.code for f in found] == ["NQR-PRE-033"] * refused
    found = run(Settings(), fit(), host, Situation(known=True))  # an earlier run took it over: another rule
    assert {f.code for f in found} <= {"NQR-PRE-036"}


@pytest.mark.parametrize("line", ["net.ipv4.ip_forward=0", "  -net/ipv4/ip_forward = 0"])
def test_disabled_ip_forwarding_is_reported(line: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/sysctl.d/99-alice.conf", f"# no router\n{line}\n")
    (found,) = run(Settings(), fit(), host, Situation())
    assert found.code == "NQR-PRE-034" and found.severity is Severity.warning and "99-alice.conf" in found.what
    assert run(settings(network={"mode": "isolated"}), fit(), host, Situation()) == []
    host.put("/etc/sysctl.d/99-alice.conf", "#net.ipv4.ip_forward=0\nnet.ipv4.ip_forward=1\n")
    assert run(Settings(), fit(), host, Situation()) == []


def test_nftables_chains_that_drop_are_reported() -> None:
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
HEALTH, CHECK = "http://m1:18080/health", "http://m1:18080/v1/hosts/join-check?name=kvm1"


def joining(health: Any, check: Any = None, token: str | None = "nqr_x", registered: bool = False) -> list[str]:
    host = FakeHost.debian12()
    for url, page in ((HEALTH, health), (CHECK, check)):
        if page is not None:
            host.pages[url] = page
    situation = Situation(join_token=Secret(token) if token else None, agent_token=Secret("agt") if registered else None)
    return [f.code for f in run(AGENT, fit(), host, situation)]


def test_preflight_says_why_the_manager_refuses_the_join_token() -> None:
    host = FakeHost.debian12()
    host.pages[HEALTH] = (200, b'{"status":"ok"}')
    host.pages[CHECK] = (401, b'{"detail": "This join token is for host h2, not for kvm1."}')
    (found,) = run(AGENT, fit(), host, Situation(join_token=Secret("nqr_x")))
    assert found.what == "The manager refuses the join token: This join token is for host h2, not for kvm1."
    assert "nqr host token kvm1" in found.cure


def test_an_agent_needs_a_manager_that_takes_its_token() -> None:
    well = (200, b'{"status":"ok","version":"1"}')
    assert joining(well, (204, b"")) == []
    assert joining(well, (401, b"{}")) == ["NQR-PRE-025"]
    assert joining(well, (403, b"{}")) == ["NQR-PRE-025"]
    assert joining(well, (409, b"{}")) == ["NQR-PRE-025"]
    assert joining(well, token=None) == ["NQR-PRE-025"]
    assert joining(well, registered=True, token=None) == [], "it joined before and needs none"
    for sick in ((500, b""), (200, b"<html>"), (200, b"[]"), None):
        assert joining(sick) == ["NQR-PRE-024"], sick
