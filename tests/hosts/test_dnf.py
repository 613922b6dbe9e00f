"""The recipes for Red Hat's package manager with the real programs: a Debian 12 host with Debian's dnf 4.14 and rpm 4.18 (RHEL 9
has dnf 4.14 and rpm 4.16, RHEL 8 dnf 4.7 and rpm 4.14, RHEL 10 dnf 4.20 and rpm 4.19), with the settings of RHEL's dnf.conf and a repository of
RPMs made up here, over HTTP. No package of Red Hat's is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hosts import killing, product
from tests.hosts.machine import Fingerprint, Machine, Snapshot
from tests.hosts.rpm_repository import LONG, POST_HELD, POST_REACHED, REPOSITORY, RPMS, SETTINGS

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

DATABASES = re.compile(
    r" (/root/|/run/|/var/lib/rpm|/var/lib/dnf|/var/cache/dnf|/var/log/(dnf|hawkey)|/etc/(passwd|group|g?shadow|subu?gid)-)"
)
NO_PYTHON = """
set -eu
cp /usr/bin/python3.11 /usr/bin/interpreter-of-dnf
{ echo '#!/usr/bin/interpreter-of-dnf'; sed 1d /usr/bin/dnf; } >/usr/bin/dnf-itself
chmod +x /usr/bin/dnf-itself
for file in /usr/bin/python3.* /usr/bin/apt-get; do mount --bind /dev/null "$file"; done
mount --bind /usr/bin/dnf-itself /usr/bin/dnf
exec "$1" --dry-run
"""
"""A host with dnf, without apt and without Python, as install.sh sees it: in mounts of its own."""

PRELUDE = f"""
import json, sys
sys.path.insert(0, {product.CLONE + "/src"!r})
from nqrust.host.errors import CommandFailed
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.installer.verbs.packages.dnf.installing import Dnf
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.step import Needed, Origin, Satisfied
from nqrust.installer.verbs import registry as verbs
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.verbs.packages.step import PackageIndex, Packages
host, manager = LocalHost(), Dnf()
originals = Originals(host, "/root/originals")
context = UndoContext(host, originals)
def remember(undos):
    host.write_file("/root/undo.json", json.dumps([undo.to_json() for undo in undos]).encode())
def record():
    return [Undo.from_json(one) for one in json.loads(host.read_text("/root/undo.json"))]
"""

INSTALL = """
step = Packages({names!r}, manager)
index = PackageIndex({names!r}, manager)
index.inspect(host)
found = step.inspect(host)
assert isinstance(found, Needed), found
undos = [verbs.VERBS.capture(originals, undo) for undo in step.prepare(host).undo]
remember(undos)
step.apply(host)
step.verify(host)
made = verbs.VERBS.conclude(originals, undos)
remember([Undo(undo.verb, {{**undo.args, "made": made[str(n)]}}, undo.retain) for n, undo in enumerate(undos)])
assert isinstance(step.inspect(host), Satisfied)
print(json.dumps([list(found.diff), undos[0].args["brought"]]))
"""

BACK = {
    "verb": "print(json.dumps([[type(o).__name__, getattr(o, 'why', '')] for o in [verbs.revert(context, undo) for undo in reversed(record())]]))",
    "script": """
entry = Entry(1, "run", "packages:test", "packages", "deps", "install packages", Origin.created, tuple(record()), 0.0, done=True)
host.write_file("/root/undo.sh", script.render(context, [entry], retain=lambda entry: False).encode(), mode=0o700)
done = host.run(command("sh", "/root/undo.sh", timeout=300, ok=(0, 1)))
print(json.dumps([[str(done.code), done.stdout + done.stderr]]))
""",
}
FORMS = pytest.mark.parametrize("form", ["verb", "script"])


@dataclass
class Bench:
    host: Machine
    start: Snapshot
    pristine: Fingerprint

    def python(self, code: str, *words: str, **environment: str) -> Any:
        """What the product's own code says, as JSON."""
        done = self.host.run(["python3", "-I", "-", *words], input=(PRELUDE + code).encode(), env=environment, timeout=600)
        return json.loads(done.stdout.splitlines()[-1])

    def install(self, *names: str) -> Any:
        return self.python(INSTALL.format(names=names))

    def back(self, form: str) -> tuple[str, str]:
        outcome, said = self.python(BACK[form])[0]
        return outcome, said

    def dnf(self, *words: str) -> str:
        return self.host.run(["dnf", "-y", "-q", *words]).stdout

    def packages(self) -> list[str]:
        return sorted(self.host.run(["rpm", "-qa", "--qf", "%{NAME}\n"]).stdout.split())

    def marks(self) -> list[str]:
        return sorted(self.dnf("repoquery", "--userinstalled", "--qf", "%{name}").split())

    def write(self, path: str, content: str) -> None:
        self.host.write(path, content)

    def different(self, besides: Fingerprint | None = None) -> str:
        """What is not as it was, but for the package manager's own notes."""
        lines = (besides or self.pristine).diff(self.host.fingerprint())
        return "\n".join(line for line in lines if not DATABASES.search(line))


@pytest.fixture(scope="module")
def made() -> Iterator[Bench]:
    with Machine() as host:
        product.clone(host)
        host.run("apt-get update -q && apt-get install -y -q --no-install-recommends dnf rpm createrepo-c",
                 env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=900)  # fmt: skip
        for path, content in SETTINGS.items():
            host.write(path, content)
        for rpm in RPMS:
            host.write("/root/made.spec", rpm.spec())
            host.run(["rpmbuild", "-bb", "--define", f"_rpmdir {REPOSITORY}", "/root/made.spec"])
        host.run(["createrepo_c", "-q", REPOSITORY])
        host.run("systemctl enable --now repository.service")
        host.wait_for("dnf -q makecache --refresh")
        host.run(["dnf", "-y", "-q", "install", "shell", "old-friend"])
        start = host.snapshot()
        host.wait_for("dnf -q makecache --refresh")
        killing.plain_devices(host)
        yield Bench(host, start, host.fingerprint())


@pytest.fixture
def bench(made: Bench) -> Bench:
    killing.restore(made.host, made.start)
    made.host.wait_for("dnf -q makecache --refresh")
    assert made.packages() == ["old-friend", "old-library", "shell"] and made.marks() == ["old-friend", "shell"]
    return made


def test_dnf_queries_match_the_real_host(bench: Bench) -> None:
    said = bench.python(
        """
def failed(names):
    try:
        manager.would_bring(host, names)
    except CommandFailed as error:
        return [manager.outdated_index(error), manager.lock_refused(error)]
print(json.dumps([
    manager.installed(host), manager.recorded(host), manager.config_only(host), manager.manual(host),
    manager.index_missing(host, ["server"]), host.run(manager.refresh()).code, manager.would_bring(host, ["server", sys.argv[1]]),
    manager.would_bring(host, ["shell"]), failed(["server", "not-there"]), manager.interrupted(host), manager.lock_holder(host),
]))""",
        LONG, LANG="de_DE.UTF-8", LANGUAGE="de", LC_MESSAGES="de_DE.UTF-8",
    )  # fmt: skip
    version = "1.2-3"
    assert said == [
        {"old-friend": version, "old-library": version, "shell": version}, ["old-friend", "old-library", "shell"], [],
        ["old-friend", "shell"], None, 0, sorted([LONG, "library", "server"]), [], [True, False], False, None,
    ]  # fmt: skip
    bench.host.run("systemctl stop repository.service; dnf -q clean all")
    assert bench.python("print(json.dumps(manager.manual(host)))") == ["old-friend", "shell"]


def test_an_archive_that_the_mirror_no_longer_has_calls_for_a_refresh(bench: Bench) -> None:
    bench.host.run(f"sed -i 's/^Release: .*/Release: 4/;' /root/made.spec; rm {REPOSITORY}/noarch/library-*.rpm")
    bench.write("/root/made.spec", next(rpm for rpm in RPMS if rpm.name == "library").spec().replace("Release: 3", "Release: 4"))
    bench.host.run(["rpmbuild", "-bb", "--define", f"_rpmdir {REPOSITORY}", "/root/made.spec"])
    refused = """
try:
    host.run(manager.install(["server"]))
except CommandFailed as error:
    print(json.dumps([manager.outdated_index(error), manager.lock_refused(error)]))"""
    assert bench.python(refused) == [True, False]


def test_unreachable_repository_is_reported(bench: Bench) -> None:
    bench.host.run("systemctl stop repository.service; dnf -q clean all")
    code = """
from nqrust.installer.engine.errors import StepFailed
said = []
for attempt in (lambda s: s.prepare(host), lambda s: s.apply(host)):
    try:
        attempt(Packages(("server",), manager))
    except StepFailed as error:
        said.append(str(error.code))
        said.append(error.what)
print(json.dumps(said))"""
    said = bench.python(code)
    assert said[::2] == ["NQR-DEP-105"] * 2 and all("made-up" in one for one in said[1::2]), said


def test_install_waits_for_another_dnf_and_names_it(bench: Bench) -> None:
    host = bench.host
    host.write(POST_HELD, "")
    running = host.start(["dnf", "-y", "install", "slow"])
    host.wait_for(["test", "-e", POST_REACHED])
    holder = bench.python("print(json.dumps(manager.lock_holder(host)))")
    assert re.fullmatch(r"dnf \(pid \d+\)", holder), holder
    assert host.read(f"/proc/{holder.split()[-1][:-1]}/cmdline").endswith("install\0slow\0")
    refused = """
try:
    host.run(command("dnf", "-y", "--setopt=exit_on_lock=1", "install", "stranger"))
except CommandFailed as error:
    print(json.dumps(manager.lock_refused(error)))"""
    assert bench.python(refused) is True
    waited = """
said = []
def release(text, fraction):
    said.append(text)
    host.remove(sys.argv[1])
Packages(("server",), manager, progress=release).apply(host)
print(json.dumps(said))"""
    assert f"waiting for {holder} to release the package manager" in bench.python(waited, POST_HELD)
    assert running.wait() == 0
    assert {"slow", "server"} <= set(bench.packages())


@FORMS
def test_dnf_install_is_undone(bench: Bench, form: str) -> None:
    assert bench.install("server", "client") == [["+ server", "+ client"], ["client", "library", "server"]]
    assert bench.host.exists("/var/lib/server/id") and bench.host.exists("/etc/server-made.conf")
    outcome = bench.back(form)
    assert outcome[0] == {"verb": "Reverted", "script": "0"}[form], outcome
    assert bench.packages() == ["old-friend", "old-library", "shell"] and bench.marks() == ["old-friend", "shell"]
    assert bench.different() == ""
    assert bench.back(form)[0] == outcome[0], "it can be repeated"


@FORMS
def test_protected_package_is_removed(bench: Bench, form: str) -> None:
    bench.install("shipped")
    assert bench.host.read("/etc/dnf/protected.d/shipped.conf") == "shipped\n"
    outcome = bench.back(form)
    assert outcome[0] == {"verb": "Reverted", "script": "0"}[form], outcome
    assert bench.packages() == ["old-friend", "old-library", "shell"] and bench.different() == ""


def test_bootstrap_packages_are_removed_last_unless_others_need_them(bench: Bench) -> None:
    farewell = """
from nqrust.installer.release.bootstrap_record import BootstrapRecord, farewell
done = host.run(command("sh", "-c", farewell(BootstrapRecord("dnf", ("client", "gone-by-now", "library"), "/root/cache"))))
print(json.dumps(done.stderr))"""
    bench.dnf("install", "client", "stranger")
    assert bench.python(farewell) == "Left installed: client gone-by-now library\n"
    assert {"client", "library", "stranger", "old-library"} < set(bench.packages())
    bench.dnf("remove", "--setopt=clean_requirements_on_remove=0", "stranger")
    assert bench.python(farewell) == ""
    assert bench.packages() == ["old-friend", "old-library", "shell"]


def test_install_sh_records_its_packages_and_uninstall_removes_them_last(bench: Bench) -> None:
    script = f"{product.CLONE}/scripts/install/install.sh"
    done = bench.host.run(["unshare", "--mount", "sh", "-c", NO_PYTHON, "sh", script], check=False)
    assert done.code == 3 and "NQR-DEP-901" in done.stderr, done.describe()  # the made-up python3.11 brings no Python
    brought = [LONG, "client", "library", "python3.11"]
    assert set(brought) < set(bench.packages())
    record = json.loads(bench.host.read("/var/cache/nqrust-microvm/bootstrap.json"))
    assert (record["manager"], record["packages"]) == ("dnf", brought)
    farewell = """
from nqrust.installer.release.bootstrap_record import farewell, read
done = host.run(command("sh", "-c", farewell(read(host))))
print(json.dumps(done.stderr))"""
    assert bench.python(farewell) == ""
    assert bench.packages() == ["old-friend", "old-library", "shell"] and not bench.host.exists("/var/cache/nqrust-microvm")


@FORMS
@pytest.mark.parametrize("other", ["stranger", "boolean"])
def test_packages_that_others_need_stay(bench: Bench, form: str, other: str) -> None:
    """By a path of a file, and by a boolean dependency."""
    bench.install("server", "client")
    bench.dnf("install", other)
    outcome, said = bench.back(form)
    assert outcome == {"verb": "Kept", "script": "0"}[form] and "others need now" in said and "library" in said, said
    assert bench.packages() == sorted(["library", "old-friend", "old-library", "shell", other]), said
    assert bench.marks() == sorted(["old-friend", "shell", other])


@FORMS
def test_postgresql_with_foreign_data_stays_installed(bench: Bench, form: str) -> None:
    """For `uninstall --drop-database`: nqr created the cluster, and administrators added a database to it."""
    data = "/var/lib/pgsql/data"
    bench.install("postgresql-server")
    bench.python(f"""
from nqrust.installer.verbs.file.undo import undo_contents
remember([*record(), undo_contents({data!r})])
print("[]")""")
    for name in ("PG_VERSION", "base/5/1259", "base/16390/1259"):
        bench.write(f"{data}/{name}", "theirs\n")
    outcome, said = bench.back(form)
    assert outcome == {"verb": "Partly", "script": "1"}[form], said
    assert f"PostgreSQL stays: {data} holds data that nqr did not create" in said
    assert bench.packages() == ["library", "old-friend", "old-library", "postgresql-server", "shell"]
    assert bench.host.read(f"{data}/base/16390/1259") == "theirs\n"
    bench.host.run(f"rm -r {data}/base/16390")
    assert bench.back(form)[0] == {"verb": "Reverted", "script": "0"}[form]
    assert bench.packages() == ["old-friend", "old-library", "shell"] and bench.different() == ""


@FORMS
def test_earlier_configuration_is_restored(bench: Bench, form: str) -> None:
    """rpm moves it aside (`.rpmorig`), lays its own beside it (`.rpmnew`), and moves it again when the package goes (`.rpmsave`)."""
    bench.write("/etc/server/plain.conf", "mine\n")
    bench.write("/etc/server/kept.conf", "mine too\n")
    bench.write("/etc/server/same.conf", "shipped\n")
    bench.host.run("chmod 640 /etc/server/plain.conf")
    before = bench.host.fingerprint()
    bench.install("server")
    assert bench.host.read("/etc/server/plain.conf") == "shipped\n"
    assert bench.host.exists("/etc/server/plain.conf.rpmorig") and bench.host.exists("/etc/server/kept.conf.rpmnew")
    outcome = bench.back(form)
    assert outcome[0] == {"verb": "Reverted", "script": "0"}[form], outcome
    assert bench.different(before) == "", outcome


@FORMS
def test_earlier_folder_is_restored_with_its_file(bench: Bench, form: str) -> None:
    bench.write("/etc/server/same.conf", "shipped\n")
    before = bench.host.fingerprint()
    bench.install("server")
    bench.back(form)
    assert bench.different(before) == ""


@FORMS
def test_rpm_keeps_edited_configuration(bench: Bench, form: str) -> None:
    bench.install("server")
    bench.write("/etc/server/plain.conf", "edited\n")
    bench.back(form)
    assert bench.host.read("/etc/server/plain.conf.rpmsave") == "edited\n"


@FORMS
@pytest.mark.parametrize("moment", ["unpack", "script"])
def test_dnf_transaction_killed_midway_is_undone(bench: Bench, form: str, moment: str) -> None:
    host = bench.host
    host.write(POST_HELD, "")
    running = host.start(["python3", "-I", "-c", PRELUDE + INSTALL.format(names=("slow",))])
    if moment == "script":
        host.wait_for(["test", "-e", POST_REACHED])
    else:
        host.run("while [ $(ls /usr/share/client 2>/dev/null | wc -l) -lt 50 ]; do :; done", timeout=120)
    host.power_cut()
    running.kill()
    torn = bench.packages(), host.run("ls /usr/share/client | head -3; ls /usr/share/client | wc -l", check=False).stdout
    assert ("client" in torn[0]) == (moment == "script"), torn
    outcome = bench.back(form)
    assert outcome[0] == {"verb": "Reverted", "script": "0"}[form], (torn, outcome)
    assert bench.packages() == ["old-friend", "old-library", "shell"] and bench.marks() == ["old-friend", "shell"]
    assert bench.different() == "", (torn, outcome)


def test_dnf_transaction_killed_midway_is_completed(bench: Bench) -> None:
    host = bench.host
    running = host.start(["python3", "-I", "-c", PRELUDE + INSTALL.format(names=("slow",))])
    host.run("while [ $(ls /usr/share/client 2>/dev/null | wc -l) -lt 50 ]; do :; done", timeout=120)
    host.power_cut()
    running.kill()
    host.wait_for("dnf -q makecache --refresh")
    assert bench.python("print(json.dumps([manager.interrupted(host), manager.lock_holder(host)]))") == [False, None]
    assert bench.install("slow")[0] == ["+ slow"]
    assert host.run(["rpm", "-V", "slow", "client", "library"]).stdout == ""
