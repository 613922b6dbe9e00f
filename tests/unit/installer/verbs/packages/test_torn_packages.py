"""Going back from a package transaction that was killed while it unpacked."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command, Completed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Reverted, UndoContext
from nqrust.installer.verbs.packages.apt.manager import APT
from nqrust.installer.verbs.packages.undo import packages
from nqrust.installer.verbs.registry import VERBS

REFUSAL = "E: The package screen needs to be reinstalled, but I can't find an archive for it.\n"


def test_half_unpacked_package_does_not_stop_the_rollback() -> None:
    host = FakeHost.debian12()
    torn = {"screen", "theirs"}

    def simulate(host: FakeHost, cmd: Command) -> str:
        if "screen" in torn:
            raise CommandFailed(cmd.argv, 100, REFUSAL)
        return "Purg qemu-system-x86 [1:7.2]\nPurg screen [4.9]\n"

    def remove(host: FakeHost, cmd: Command) -> str:
        torn.difference_update(cmd.argv)
        return ""

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("apt-get", "--simulate", prefix=True, answer=simulate)
    host.on("dpkg", "--configure", "-a", changes=True)
    host.on(
        "dpkg-query",
        prefix=True,
        answer=lambda *_: "".join(f"reinstreq {name}\n" for name in sorted(torn)) + "ok qemu-system-x86\n",
    )
    host.on("dpkg", "--force-remove-reinstreq", prefix=True, changes=True, answer=remove)
    assert APT.removing.would_go(host, ["qemu-system-x86", "screen"]) == {"qemu-system-x86", "screen"}
    assert torn == {"theirs"}, "what was not brought by us is not ours to remove"


@pytest.mark.parametrize("refusals", [0, 3, 1000])
def test_repair_waits_for_the_dpkg_lock(refusals: int) -> None:
    """dpkg(1) exits with 2 at once. apt-get waits for the lock and then meets half-configured packages."""
    host, said = FakeHost.debian12(), "dpkg: error: dpkg frontend lock was locked by unattended-upgr with pid 700\n"
    left = [refusals]

    def configure(host: FakeHost, cmd: Command) -> Completed:
        left[0] -= 1
        return Completed(cmd.argv, 2, "", said, 0.1) if left[0] >= 0 else Completed(cmd.argv, 0, "", "", 0.1)

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg-query", prefix=True, answer="half-configured screen\n")
    host.on("dpkg", "--configure", "-a", changes=True, answer=configure)
    began = host.monotonic()
    if refusals < 1000:
        APT.removing.mend(host, {"screen"})
        assert host.monotonic() - began == 2.0 * refusals and left == [-1]
    else:
        with pytest.raises(CommandFailed, match="unattended-upgr"):
            APT.removing.mend(host, {"screen"})
        assert 300 <= host.monotonic() - began < 310, "as long as apt-get waits, and not for ever"


def test_half_unpacked_packages_are_removed_before_the_purge() -> None:
    # With its archive still in the cache apt-get simulates happily, and then fails for good at removing it.
    host = FakeHost.debian12()
    there, order = {"screen", "qemu-system-x86"}, []

    def query(host: FakeHost, cmd: Command) -> str:
        if "Eflag" in cmd.argv[-1]:
            return "reinstreq screen\nok qemu-system-x86\n"
        return "".join(f"installed {name}\n" for name in sorted(there))

    def remove(host: FakeHost, cmd: Command) -> str:
        order.append(cmd.argv[0])
        there.difference_update(cmd.argv)
        return ""

    def purge(host: FakeHost, cmd: Command) -> str:
        assert "screen" not in cmd.argv, "apt-get does not know it when its index is gone"
        return remove(host, cmd)

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True)
    host.on("dpkg-query", prefix=True, answer=query)
    host.on("dpkg", "--force-remove-reinstreq", prefix=True, changes=True, answer=remove)
    host.on("apt-get", "purge", prefix=True, changes=True, answer=purge)
    APT.removing.mend(host, {"screen", "qemu-system-x86"})
    APT.removing.purge(host, {"screen", "qemu-system-x86"}, set())
    assert order == ["dpkg", "apt-get"] and there == set()


def test_interrupted_package_is_unpacked_again() -> None:
    host = FakeHost.debian12()
    host.put("/var/cache/apt/archives/screen_4.9.0-4_amd64.deb", "an archive")
    torn = {"screen"}

    def unpack(host: FakeHost, cmd: Command) -> str:
        torn.discard("screen")
        return ""

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True)
    host.on("dpkg-query", prefix=True, answer=lambda *_: "reinstreq screen\n" if torn else "installed screen\n")
    host.on("dpkg", "--force-depends", "--force-confold", "--unpack", prefix=True, changes=True, answer=unpack)
    host.on("apt-get", "purge", prefix=True, changes=True)
    APT.removing.mend(host, {"screen"})
    APT.removing.purge(host, {"screen"}, set())
    assert host.commands[-1].argv[:2] == ("apt-get", "purge") and "screen" in host.commands[-1].argv


def test_without_its_archive_no_half_written_file_stays() -> None:
    host = FakeHost.debian12()
    for path in ("/etc/screenrc.dpkg-new", "/etc/other.dpkg-new", "/var/lib/dpkg/tmp.ci/control"):
        host.put_directory(path.rpartition("/")[0])
        host.put(path, "x")
    host.put("/var/lib/dpkg/tmp.ci/conffiles", "/etc/screenrc\n")
    there = {"screen"}

    def remove(host: FakeHost, cmd: Command) -> str:
        there.clear()
        return ""

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True)
    host.on("dpkg-query", prefix=True, answer=lambda *_: "reinstreq screen\n" if there else "")
    host.on("dpkg", "--force-remove-reinstreq", prefix=True, changes=True, answer=remove)
    APT.removing.mend(host, {"screen"})
    APT.removing.purge(host, {"screen"}, set())
    assert not host.exists("/etc/screenrc.dpkg-new") and not host.exists("/var/lib/dpkg/tmp.ci")
    assert host.exists("/etc/other.dpkg-new"), "another's"


def test_configuration_of_packages_removed_before_install_stays() -> None:
    host = FakeHost.debian12()
    host.put("/var/lib/dpkg/info/bash.list", "/bin/bash\n")
    states = {"bash": "installed", "screen": "installed", "dnsmasq-base": "installed", "helper": "installed"}
    order: list[tuple[str, ...]] = []

    def act(host: FakeHost, cmd: Command) -> str:
        order.append(tuple(word for word in cmd.argv[1:] if word in states or word in ("remove", "purge")))
        for name in set(cmd.argv) & states.keys():
            states[name] = "config-files" if cmd.argv[1] == "remove" else "not-installed"
        return ""

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True)
    # The administrator asked for dnsmasq-base since, and for bash no more.
    host.on("apt-mark", prefix=True, answer=lambda h, c: "dnsmasq-base\n" if c.argv[1] == "showmanual" else pytest.fail("marks"))
    host.on("apt-get", "--simulate", prefix=True, answer=lambda h, c: "".join(f"Purg {n} [1]\n" for n in states if n in c.argv))
    host.on(
        "dpkg-query",
        prefix=True,
        answer=lambda h, c: "" if "Eflag" in c.argv[-1] else "".join(f"{s} {n}\n" for n, s in states.items()),
    )
    for verb in ("remove", "purge"):
        host.on("apt-get", verb, prefix=True, changes=True, answer=act)
    args = {
        "manager": "apt", "before": ["bash", "dnsmasq-base"], "manual": ["bash"], "config_only": ["dnsmasq-base"],
        "brought": ["screen", "helper", "dnsmasq-base"],
    }  # fmt: skip
    context = UndoContext(host, Originals(host, "/var/lib/originals"))
    assert isinstance(packages(context, args), Reverted)
    assert order == [("remove", "dnsmasq-base"), ("purge", "helper", "screen")]
    assert states == {"bash": "installed", "screen": "not-installed", "dnsmasq-base": "config-files", "helper": "not-installed"}
    packages(context, args)
    assert len(order) == 2, "done is done"


def test_files_made_while_a_transaction_is_completed_are_removed() -> None:
    """netbase's postinst writes /etc/hosts. If the transaction is killed before that, the rollback completes it. nqr must
    see the new file, so the file must not appear after the survey."""
    host = FakeHost.debian12()
    originals = Originals(host, "/var/lib/nqrust-microvm/originals")
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/bash\n")
    undo = VERBS.capture(
        originals,
        Undo("packages", {"manager": "apt", "before": ["bash"], "manual": [], "config_only": [], "brought": ["netbase"]}),
    )
    host.put("/var/lib/dpkg/info/netbase.postinst", "[ -e /etc/hosts ] || cat > /etc/hosts <<-EOF\n")
    host.put("/var/lib/dpkg/tmp.ci/control", "Package: screen\n")  # of the next package; none is half unpacked
    states = {"bash": "installed", "netbase": "unpacked"}

    def configure(host: FakeHost, cmd: Command) -> str:
        if states["netbase"] == "unpacked":
            states["netbase"] = "installed"
            host.put("/etc/hosts", "127.0.0.1 localhost\n")
        return ""

    def purge(host: FakeHost, cmd: Command) -> str:
        states["netbase"] = "not-installed"
        host.remove("/var/lib/dpkg/info/netbase.postinst")
        return ""

    host.on("dpkg", "--print-architecture", answer="amd64\n")
    host.on("dpkg", "--configure", "-a", changes=True, answer=configure)
    host.on(
        "dpkg-query",
        prefix=True,
        answer=lambda h, c: (
            ""
            if "Eflag" in c.argv[-1] or "Depends" in c.argv[-1]
            else "".join(f"{state} {name}\n" for name, state in states.items())
        ),
    )
    host.on("apt-get", "--simulate", prefix=True, answer="Purg netbase [6.4]\n")
    host.on("apt-get", "purge", prefix=True, changes=True, answer=purge)
    assert isinstance(packages(UndoContext(host, originals), undo.args), Reverted)
    assert not host.exists("/etc/hosts") and not host.exists("/var/lib/dpkg/tmp.ci")


DATA, CONFIGURATION = "/var/lib/postgresql/15/main", "/etc/postgresql/15/main"


@pytest.mark.parametrize(
    ("there", "unfinished", "goes"),
    [
        ((f"{DATA}/PG_VERSION", f"{DATA}/postmaster.pid"), "postgresql-15", True),
        ((f"{DATA}/PG_VERSION", f"{DATA}/pg_hba.conf", f"{CONFIGURATION}/postgresql.conf"), "postgresql-15", True),
        ((f"{DATA}/PG_VERSION",), "postgresql-16", False),
        ((f"{DATA}/PG_VERSION",), "postgresql-client-15", False),
        ((f"{DATA}/PG_VERSION", f"{DATA}/postmaster.opts"), "postgresql-15", False),
        ((f"{DATA}/PG_VERSION", f"{DATA}/base/16390/1259"), "postgresql-15", False),
        (
            (f"{DATA}/PG_VERSION", *(f"{CONFIGURATION}/{name}.conf" for name in ("postgresql", "pg_hba", "pg_ident"))),
            "postgresql-15",
            False,
        ),
    ],
)
def test_a_torn_cluster_makes_way_for_the_script_that_makes_it_again(there: tuple[str, ...], unfinished: str, goes: bool) -> None:
    host = FakeHost.debian12()
    host.on(
        "dpkg-query", prefix=True, answer=f"half-configured\t{unfinished}\t{unfinished}\t1\t\ninstalled\tscreen\tscreen\t1\t\n"
    )
    for path in there:
        host.put(path, "15\n")
    assert APT.installing.repair(host)[0].argv[-2:] == ("--configure", "-a")
    assert {path: host.exists(path) for path in there} == dict.fromkeys(there, not goes)
    assert host.exists(CONFIGURATION) == (not goes and any(CONFIGURATION in path for path in there))
