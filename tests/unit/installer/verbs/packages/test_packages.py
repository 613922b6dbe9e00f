"""Packages, with a small apt and dpkg in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import planned

from nqrust.host import locks
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.verbs.packages.apt.installing import POLICY_RC_D, Apt, parse_simulation
from nqrust.installer.verbs.packages.dnf.installing import Dnf, parse_transaction
from nqrust.installer.verbs.packages.dnf.stream import ModuleStream
from nqrust.installer.verbs.packages.manager import trusting
from nqrust.installer.verbs.packages.step import PackageIndex, Packages, transaction_failed

PROVIDES = {"dnsmasq-base-lua": "dnsmasq-base (= 1.0), dns-forwarder", "postgresql-client-13": "postgresql-client"}
NEEDS = {"postgresql": ["postgresql-15", "libpq5"], "screen": [], "cowsay": []}
LOCKS = "1: POSIX  ADVISORY  WRITE 812 08:01:{inode} 0 EOF\n2: POSIX  ADVISORY  READ 9 08:01:7 0 EOF\n"


@dataclass
class FakeApt:
    """dpkg's database and the archive's index. `trouble`: stderr of the next installs, one each."""

    installed: set[str]
    index: set[str]
    trouble: list[str] = field(default_factory=list)
    started_with_policy: list[bool] = field(default_factory=list)
    half_done: bool = False
    removes: tuple[str, ...] = ()

    def attach(self, host: FakeHost) -> None:
        host.put("/var/lib/dpkg/status", "")
        host.put_directory("/var/lib/dpkg/updates")
        host.put("/var/lib/dpkg/lock-frontend", "")
        host.put("/proc/locks", "")
        if self.index:
            host.put("/var/lib/apt/lists/mirror_dists_bookworm_main_binary-amd64_Packages", "")
        host.on("dpkg-query", prefix=True, answer=lambda h, c: self.rows())
        host.on("apt-mark", "showmanual", answer=lambda h, c: "screen\n")
        host.on("apt-cache", "pkgnames", answer=lambda h, c: "\n".join(self.index))
        host.on("dpkg", "--audit", answer=lambda h, c: "x is half configured\n" if self.half_done else "")
        host.on("dpkg", "--force-confold", prefix=True, changes=True, answer=lambda h, c: self.configure())
        host.on("apt-get", "update", prefix=True, changes=True, answer=lambda h, c: self.update(h))
        host.on("apt-get", "--simulate", prefix=True, answer=lambda h, c: self.simulate(c))
        host.on("apt-get", "install", prefix=True, changes=True, answer=lambda h, c: self.install(h, c))

    def rows(self) -> str:
        rows = ((n, ":amd64" if n.startswith("lib") else "", PROVIDES.get(n, "")) for n in sorted(self.installed))
        return "".join(f"installed\t{n}\t{n}{arch}\t1.0\t{provides}\n" for n, arch, provides in rows)

    def configure(self) -> None:
        self.half_done = False

    def update(self, host: FakeHost) -> None:
        self.index |= set(NEEDS)
        host.put("/var/lib/apt/lists/mirror_dists_bookworm_main_binary-amd64_Packages", "")

    def wanted(self, names: Iterable[str]) -> list[str]:
        found = [n for n in names if n in self.index]
        return found + [d for n in found for d in NEEDS.get(n, [])]

    def simulate(self, cmd: Command) -> str:
        removed = "".join(f"Remv {n} [1.0]\n" for n in self.removes)
        return removed + "".join(f"Inst {n} (1.0 Debian:12/stable [amd64])\n" for n in self.wanted(cmd.argv[7:]))

    def install(self, host: FakeHost, cmd: Command) -> str:
        self.started_with_policy.append(host.exists(POLICY_RC_D.path))
        if self.trouble:
            raise CommandFailed(cmd.argv, 100, self.trouble.pop(0))
        self.installed |= set(self.wanted(cmd.argv))
        return "0 upgraded, 2 newly installed\nUnpacking screen (1.0) ...\nSetting up screen (1.0) ...\n"


@pytest.fixture
def apt() -> FakeApt:
    return FakeApt({"dpkg", "screen"}, set(NEEDS))


@pytest.fixture
def host(apt: FakeApt) -> FakeHost:
    host = FakeHost.debian12()
    apt.attach(host)
    return host


def test_only_what_is_missing_is_installed_in_one_transaction(host: FakeHost, apt: FakeApt) -> None:
    step = Packages(("screen", "postgresql"), Apt(), residue_users=("root", "postgres"), residue_groups=("ssl-cert",))
    assert planned(host, step) == ("+ postgresql",)
    undo = step.prepare(host).undo[0]
    assert undo.args["before"] == ["dpkg", "screen"] and undo.args["manual"] == ["screen"]
    assert {"postgresql", "postgresql-15", "libpq5:amd64"} <= set(undo.args["brought"])
    assert undo.args["residue"] == {"users": ["postgres"], "groups": ["ssl-cert"]}
    step.apply(host)
    step.verify(host)
    installs = [c.argv for c in host.commands if c.argv[:2] == ("apt-get", "install")]
    assert len(installs) == 1 and "--no-install-recommends" in installs[0] and "Dpkg::Options::=--force-confold" in installs[0]
    assert "screen" not in installs[0]


def test_a_package_of_the_administrator_makes_way_for_none(host: FakeHost, apt: FakeApt) -> None:
    apt.removes = ("busybox",)
    with pytest.raises(StepFailed) as caught:
        Packages(("postgresql",), Apt()).prepare(host)
    assert caught.value.code == "NQR-DEP-110" and "remove busybox" in caught.value.what and not host.mutations
    manager = Apt()
    for cmd in (manager.install(("postgresql",)), manager.repair(host)[-1]):
        assert "--no-remove" in cmd.argv, "also when the host has changed since"
        assert "APT::Get::AutomaticRemove=false" in cmd.argv, "apt refuses the two together"


def test_a_package_that_stands_for_another_is_enough(host: FakeHost, apt: FakeApt) -> None:
    apt.installed |= {"dnsmasq-base-lua"}
    assert isinstance(Packages(("screen", "dnsmasq-base"), Apt()).inspect(host), Satisfied)
    apt.installed |= {"postgresql-client-13"}
    assert planned(host, Packages(("postgresql-client",), Apt())) == ("+ postgresql-client",), "too old for a newer server"


def test_nothing_is_asked_of_apt_when_all_is_there(host: FakeHost, apt: FakeApt) -> None:
    apt.installed |= {"postgresql"}
    for step in (PackageIndex(("screen", "postgresql"), Apt()), Packages(("screen", "postgresql"), Apt())):
        assert isinstance(step.inspect(host), Satisfied)
    assert {c.argv[0] for c in host.commands} == {"dpkg-query"} and not host.mutations


@pytest.mark.parametrize("age, index, needed", [(3600, set(NEEDS), False), (90000, set(NEEDS), True), (3600, {"screen"}, True), (0, set(), True)])  # fmt: skip
def test_index_is_fetched_when_missing_old_or_incomplete(age: int, index: set[str], needed: bool) -> None:
    host, apt = FakeHost.debian12(), FakeApt(set(), index)
    apt.attach(host)
    host.clock += age
    step = PackageIndex(("postgresql",), Apt())
    assert isinstance(step.inspect(host), Needed) is needed
    if needed:
        step.apply(host)
        assert isinstance(step.inspect(host), Satisfied)


def test_index_that_cannot_be_fetched_is_no_trouble_while_the_old_one_knows_all(host: FakeHost, apt: FakeApt) -> None:
    host.on("apt-get", "update", prefix=True, answer=CommandFailed(("apt-get",), 100, "E: Failed to fetch x"))
    PackageIndex(("postgresql",), Apt()).apply(host)
    apt.index.clear()
    with pytest.raises(StepFailed) as caught:
        PackageIndex(("postgresql",), Apt()).apply(host)
    assert caught.value.code == "NQR-DEP-102" and "Failed to fetch" in caught.value.what


def test_stale_index_is_refreshed_once_and_the_install_retried(host: FakeHost, apt: FakeApt) -> None:
    apt.trouble = ["E: Failed to fetch http://mirror/x.deb  404  Not Found"]
    step = Packages(("postgresql",), Apt())
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)
    apt.installed.discard("postgresql")
    apt.trouble = ["E: Unable to locate package x"] * 2
    with pytest.raises(StepFailed) as caught:
        step.apply(host)
    assert caught.value.code == "NQR-DEP-103"


@pytest.mark.parametrize(
    "said, code",
    [
        ("E: Write error - write (28: No space left on device)", "NQR-DEP-104"),
        ("E: Failed to fetch x  Could not resolve 'mirror'", "NQR-DEP-105"),
        ("E: Sub-process /usr/bin/dpkg returned an error code (1)", "NQR-DEP-106"),
    ],
)
def test_failures_have_codes_and_cures(host: FakeHost, apt: FakeApt, said: str, code: str) -> None:
    apt.trouble = [said]
    with pytest.raises(StepFailed) as caught:
        Packages(("postgresql",), Apt()).apply(host)
    assert caught.value.code == code and caught.value.cure.endswith(".")


def test_waits_for_another_package_manager_and_says_so(host: FakeHost, apt: FakeApt) -> None:
    inode = host.stat("/var/lib/dpkg/lock-frontend").inode  # type: ignore[union-attr]
    host.put("/proc/locks", LOCKS.format(inode=inode))
    host.put("/proc/812/comm", "unattended-upgr\n")
    host.put_symlink("/var/lib/dpkg/lock-frontend", "/proc/812/fd/4")
    heard: list[str] = []

    def progress(text: str, fraction: float | None) -> None:
        heard.append(text)
        if len(heard) == 3:
            host.put("/proc/locks", "")

    Packages(("postgresql",), Apt(), progress=progress).apply(host)
    assert heard[0] == "waiting for unattended-upgr (pid 812) to release the package manager"
    assert "Setting up screen" in heard


def test_apt_output_becomes_progress(host: FakeHost, apt: FakeApt) -> None:
    heard: list[tuple[str, float | None]] = []
    Packages(("postgresql",), Apt(), progress=lambda text, fraction: heard.append((text, fraction))).apply(host)
    assert heard == [("Unpacking screen", 0.25), ("Setting up screen", 0.5)], "two of the four steps of two packages"


def test_lock_that_is_never_released(host: FakeHost, apt: FakeApt) -> None:
    inode = host.stat("/var/lib/dpkg/lock-frontend").inode  # type: ignore[union-attr]
    host.put("/proc/locks", LOCKS.format(inode=inode))
    host.put("/proc/812/comm", "apt\n")
    host.put_symlink("/var/lib/dpkg/lock-frontend", "/proc/812/fd/4")
    with pytest.raises(StepFailed) as caught:
        Packages(("postgresql",), Apt()).apply(host)
    assert caught.value.code == "NQR-DEP-101" and "apt (pid 812)" in caught.value.what


def test_cut_off_transaction_is_completed_first(host: FakeHost, apt: FakeApt) -> None:
    apt.half_done = True
    Packages(("postgresql",), Apt()).apply(host)
    acted = [c.argv for c in host.commands if c.argv[0] in ("dpkg", "apt-get") and "--audit" not in c.argv]
    assert "--configure" in acted[0] and "--fix-broken" in acted[1] and acted[2][-1] == "postgresql"


def test_services_are_held_only_while_packages_go_in(host: FakeHost, apt: FakeApt) -> None:
    step = Packages(("postgresql",), Apt(), hold_services=True)
    assert [u.verb for u in step.prepare(host).undo] == ["packages", "file"]
    step.apply(host)
    assert apt.started_with_policy == [True] and not host.exists(POLICY_RC_D.path)


def test_policy_left_by_a_killed_run_is_taken_away(host: FakeHost, apt: FakeApt) -> None:
    apt.installed.add("postgresql")
    host.put(POLICY_RC_D.path, POLICY_RC_D.content, mode=0o755)
    step = Packages(("postgresql",), Apt(), hold_services=True)
    assert planned(host, step)
    step.apply(host)
    assert not host.exists(POLICY_RC_D.path) and isinstance(step.inspect(host), Satisfied)


def test_foreign_start_policy_stays(host: FakeHost, apt: FakeApt) -> None:
    host.put(POLICY_RC_D.path, "#!/bin/sh\nexit 101\n", mode=0o755)
    step = Packages(("postgresql",), Apt(), hold_services=True)
    assert [u.verb for u in step.prepare(host).undo] == ["packages"]
    step.apply(host)
    assert host.read_text(POLICY_RC_D.path) == "#!/bin/sh\nexit 101\n"


def test_policy_goes_when_the_transaction_fails(host: FakeHost, apt: FakeApt) -> None:
    apt.trouble = ["E: broken"]
    with pytest.raises(StepFailed):
        Packages(("postgresql",), Apt(), hold_services=True).apply(host)
    assert not host.exists(POLICY_RC_D.path)


def test_simulation_names_come_with_and_without_architecture() -> None:
    text = (
        "Inst libpq5 (15.8-0+deb12u1 Debian:12.7/stable [amd64])\n"
        "Inst tzdata [2024a] (2024b Debian:12-updates/stable [all]) []\n"
        "Conf libpq5 (15.8-0+deb12u1 Debian:12.7/stable [amd64])\nReading state information...\n"
    )
    assert parse_simulation(text) == ["libpq5", "libpq5:amd64"]


def test_lock_lines() -> None:
    assert locks.parse(LOCKS.format(inode=131), 131, {(8, 1)}) == [812]
    assert locks.parse(LOCKS.format(inode=131), 131, {(8, 2), (0, 23)}) == [], "the file of another file system"
    assert locks.parse("1: FLOCK  ADVISORY  WRITE 5 fd:1a:131 0 EOF\n", 131, {(253, 26)}) == [5], "hexadecimal"
    assert locks.parse("garbage\n1: -> POSIX ADVISORY WRITE 5 08:01:131 0 EOF\n", 131, {(8, 1)}) == []


def test_dnf_failure_of_a_full_disk_shows_without_its_label(host: FakeHost) -> None:
    summary = "Error Summary\n-------------\nDisk Requirements:\n   At least 12MB more space needed on the / filesystem.\n"
    failed = transaction_failed(Dnf(), CommandFailed(("dnf",), 1, f"Error: Transaction test error\n{summary}"))
    assert failed.code == "NQR-DEP-104" and failed.what.endswith(": Transaction test error.")


def test_dnf_transaction() -> None:
    text = (
        "Dependencies resolved.\n=====\n Package   Arch  Version Repo Size\n=====\nInstalling:\n"
        " screen    x86_64 4.8.0-6.el9 epel 649 k\nInstalling dependencies:\n libutempter x86_64 1.2.1-6.el9 baseos 27 k\n"
        "\nTransaction Summary\n Install  2 Packages\n"
    )
    assert parse_transaction(text) == ["libutempter", "screen"]


def test_a_row_of_dnf_that_does_not_fit_goes_on_in_the_next_line() -> None:
    text = (
        "Installing:\n python3-setuptools-wheel\n                 noarch 39.2.0-7.el8     baseos 288 k\n"
        "     replacing  old-wheel.noarch 1-1\n screen          x86_64 4.8.0-6.el9      epel   649 k\n"
        "Upgrading:\n zlib            x86_64 1.2.11-40.el9    baseos  91 k\n"
        "\nTransaction Summary\n Install  2 Packages\n"
    )
    assert parse_transaction(text) == ["python3-setuptools-wheel", "screen"]


@pytest.mark.parametrize("lock", ["/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/metadata_lock.pid"])
def test_dnf_locks_are_files_with_a_process_in_them(host: FakeHost, lock: str) -> None:
    assert Dnf().lock_holder(host) is None
    host.put(lock, "812")
    assert Dnf().lock_holder(host) is None, "it was killed"
    host.put("/proc/812/comm", "dnf\n")
    assert Dnf().lock_holder(host) == "dnf (pid 812)"


def test_dnf_tells_by_its_exit_code_that_it_was_refused_the_lock() -> None:
    waited = "Waiting for process with pid 812 to finish.\nError: Transaction test error"
    assert not Dnf().lock_refused(CommandFailed(("dnf",), 1, "", waited))
    assert Dnf().lock_refused(CommandFailed(("dnf",), 200, "Error: already locked by 812"))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_package_managers_trust_the_certificates_of_the_environment(variable: str) -> None:
    """They read no such variable. dpkg has no network, and no such option."""
    host, option = FakeHost(), "Acquire::https::CAInfo=/etc/own.pem"
    host.variables[variable] = "/etc/own.pem"
    assert trusting(host, Apt(), Apt().install(("x",))).argv[:4] == ("apt-get", "-o", option, "install")
    assert trusting(host, Apt(), Apt().refresh()).argv[:4] == ("apt-get", "-o", option, "update")
    configure = command("dpkg", "--configure", "-a")
    assert trusting(host, Apt(), configure) == configure
    assert trusting(host, Dnf(), Dnf().refresh()).argv[:2] == ("dnf", "--setopt=sslcacert=/etc/own.pem")
    host.variables.clear()
    assert trusting(host, Apt(), Apt().refresh()) == Apt().refresh()


def test_every_transaction_names_the_certificates(host: FakeHost, apt: FakeApt) -> None:
    host.variables["SSL_CERT_FILE"] = "/etc/own.pem"
    host.on(
        "apt-get", "-o", prefix=True, changes=True, answer=lambda h, c: apt.install(h, replace(c, argv=(c.argv[0], *c.argv[3:])))
    )
    Packages(("cowsay",), Apt()).apply(host)
    assert "cowsay" in apt.installed


def test_dnf_asks_for_metadata_with_the_certificates() -> None:
    host = FakeHost()
    host.variables["SSL_CERT_FILE"] = "/etc/own.pem"
    host.on("dnf", "--setopt=sslcacert=/etc/own.pem", prefix=True, answer="Nothing to do.\n")
    assert Dnf().would_bring(host, ("x",)) == []
    ModuleStream("postgresql", "15", "postgresql-server").apply(host)
    assert [cmd.argv[-1] for cmd in host.commands] == ["x", "postgresql:15"]
