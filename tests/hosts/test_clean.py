"""An install is exactly reversible: it writes only declared paths, and each way of removal restores the host."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import main_job, product
from tests.hosts.machine import Fingerprint, Machine, Snapshot
from tests.hosts.machine.outside import outside
from tests.hosts.product import nqr

pytestmark = pytest.mark.timeout(2400)

STATE = "/var/lib/nqrust-microvm"
UNDO = f"{STATE}/undo.sh"
EVERYTHING = ("uninstall", "--purge-data", "--drop-database", "--non-interactive")
CACHES_AND_LOGS = (
    ("/var/cache/", "caches; ours goes with the uninstall, the others' are derived anew"),
    ("/var/log/", "logs; ours goes with the uninstall, those of the package manager are history"),
    (
        "/var/lib/(apt|dpkg|ucf|systemd)/|/var/lib/ucf$|/var/lib/shells.state$",
        "databases of the package tools, which undo their entries",
    ),
    ("/tmp/|/var/tmp/", "private folders of services, which systemd makes and removes"),
    (r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$", "accounts: each is in a record or the survey"),
    ("/etc/alternatives/|/usr/(s?bin|share/man|lib)/", "update-alternatives(1) of packages, taken back by their scripts"),
    (r"/etc/ld\.so\.cache$|/etc/shells$|/etc/machine-id$", "derived by ldconfig, add-shell and the first boot"),
    (r"/etc/systemd/(system|user)/[\w.-]+\.wants(/|$)", "enabled units: the unit's record says whether they were"),
    (r"/etc/rc[0-6S]\.d/", "enabled init scripts of packages, taken back by their purge"),
    (f"{STATE}/", "what nqr itself remembers; goes last, as a whole"),
    ("/var/lib/dbus/machine-id$|__pycache__", "made at boot; caches of compiled Python"),
)
DECLARED = re.compile("|".join(f"(?:{pattern})" for pattern, _ in CACHES_AND_LOGS))
OURS = ("/etc", "/opt", "/srv", "/usr", "/root", "/var/cache", STATE, "/var/log/nqrust-install")
"""Where a re-run must write nothing at all (but for what a running agent and server write meanwhile)."""


@dataclass
class Installed:
    host: Machine
    before: Fingerprint
    disk: Snapshot
    undeclared: list[str]
    rewritten: list[str]
    used: int


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with Machine() as host:
        product.clone(host)
        before, empty = host.fingerprint(), _used(host)
        product.bootstrap(host, "--mode", "production", "--non-interactive")
        used, undeclared = _used(host) - empty, _undeclared(host)
        mark = host.mark()
        again = product.bootstrap(host, "--mode", "production", "--non-interactive")
        assert "(0 changed" in again.stdout, again.describe()
        rewritten = [str(c) for c in host.changes(mark) if c.path.startswith(OURS) and not product.LIVING.search(c.path)]
        yield Installed(host, before, host.snapshot(), undeclared, rewritten, used)


def _used(host: Machine) -> int:
    """KiB that this host has written to its disk."""
    return int(outside("du", "-xsk", str(host.upper)).stdout.split()[0])


def _journal(host: Machine) -> list[dict[str, object]]:
    return [json.loads(line) for line in host.read(f"{STATE}/journal.jsonl").splitlines()]


def _records(host: Machine) -> list[dict[str, object]]:
    return [undo for record in _journal(host) for undo in record.get("undo", [])]  # type: ignore[attr-defined]


def _undeclared(host: Machine) -> list[str]:
    """What the install wrote and neither its journal, nor a package, nor the table above accounts for."""
    paths: dict[str, bool] = {}
    for undo in _records(host):
        args = undo["args"]
        assert isinstance(args, dict)
        if "path" in args:
            paths[args["path"]] = paths.get(args["path"], False) or bool(args.get("tree"))
    for record in _journal(host):
        for digest in dict(record.get("made", {})).values():  # type: ignore[call-overload]
            for path in json.loads(gzip.decompress(host.read_bytes(f"{STATE}/originals/{digest}")))["paths"]:
                paths[path] = True
    owned = set(host.run("cat /var/lib/dpkg/info/*.list").stdout.splitlines())
    owned |= {f"/usr{path}" for path in owned if path.startswith(("/bin", "/sbin", "/lib"))}
    trees = [path for path, tree in paths.items() if tree]
    return [
        f"{change.what} {change.path}"
        for change in host.changes()
        if change.path not in paths
        and change.path not in owned
        and not change.path.startswith((product.CLONE, "/root/a clone"))
        and not any(change.path.startswith(f"{tree}/") for tree in trees)
        and not DECLARED.search(change.path)
    ]


def test_install_writes_only_declared_paths(installed: Installed) -> None:
    assert installed.undeclared == []


def test_install_uses_no_more_disk_than_the_review_promises(installed: Installed) -> None:
    """With the compilers of the guest agent. The hosts of the tests share what apt downloads, so that is not in it."""
    assert 0 < installed.used < 3 * 1024**2


def test_the_same_command_again_writes_nothing(installed: Installed) -> None:
    assert installed.rewritten == []


def test_rollback_of_a_setting_change_keeps_the_service_on_the_old_value(installed: Installed) -> None:
    host = installed.host
    nqr(host, "install", "--non-interactive", env={"MANAGER_BIND": "0.0.0.0:18085"}, timeout=600)
    assert product.fetch(host, "http://127.0.0.1:18085/health")[0] == 200
    nqr(host, "rollback", "--non-interactive", timeout=600)
    product.eventually("the manager is back", lambda: product.fetch(host, "http://127.0.0.1:18080/health")[0] == 200)
    assert product.fetch(host, "http://127.0.0.1:18085/health")[0] == 0
    assert "drift" not in nqr(host, "status").stdout


def test_uninstall_leaves_a_clean_host_and_reports_it(installed: Installed) -> None:
    host = installed.host
    last = product.create_vm(host, "last")
    uninstall = [f"{product.CLONE}/scripts/install/uninstall.sh", *EVERYTHING[1:]]
    said = host.run([*uninstall, "--save-fingerprint", "/tmp/before.json.gz"], timeout=900).stdout
    assert "This host is back to its state before the install" in said
    assert product.vm_processes(host, last["id"]) == {}
    assert [path for path in main_job.GONE if host.exists(path)] == []
    assert installed.before.diff(host.fingerprint()) == []
    check = [f"{product.CLONE}/scripts/install/verify-clean.sh", "--before", "/tmp/before.json.gz"]
    assert host.run(check, timeout=600).stdout == "Nothing differs.\n"
    assert installed.before.diff(host.fingerprint()) == [], "it leaves nothing either"
    host.write("/etc/of-somebody", "")
    differs = host.run(check, timeout=600, check=False)
    assert differs.code == 1 and "/etc/of-somebody" in differs.stdout, differs.describe()


def test_undo_script_leaves_a_clean_host_without_nqr(installed: Installed) -> None:
    host = installed.host
    host.restore(installed.disk)
    nqr(host, "uninstall", "--script", "/root/undo.sh", "--purge-data", "--drop-database")
    host.run("rm -rf /opt/nqrust-microvm/installer /usr/local/bin/nqr /var/cache/nqrust-microvm")
    done = host.run("sh /root/undo.sh && rm /root/undo.sh", timeout=600)
    assert done.stdout.rstrip().endswith("Done.") and "Could not" not in done.stderr, done.describe()
    assert installed.before.diff(host.fingerprint()) == []
    again = host.run("test ! -e /var/lib/nqrust-microvm && test ! -e /opt/nqrust-microvm", check=False)
    assert again.ok


NEEDY = """\
Package: needy
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.invalid>
Description: came after the install and needs some of what it brought
Depends: dnsmasq-base, qemu-utils
"""


@pytest.mark.matrix
def test_nqr_and_undo_script_both_keep_packages_that_others_need(installed: Installed) -> None:
    host = installed.host
    host.restore(installed.disk)
    host.write("/root/needy/DEBIAN/control", NEEDY)
    host.run("dpkg-deb --build /root/needy && dpkg --install /root/needy.deb && rm -r /root/needy /root/needy.deb")
    nqr(host, "uninstall", "--script", "/root/undo.sh", "--purge-data", "--drop-database")
    ready = host.snapshot()
    said = nqr(host, *EVERYTHING, timeout=600)
    host.run("rm /root/undo.sh")
    by_nqr = host.fingerprint()
    assert "packages that others need now" in said.stdout, said.describe()
    left = set(host.run("dpkg-query -W -f '${Package}\\n'").stdout.split()) - set(installed.before.data["packages"])
    assert {"needy", "dnsmasq-base", "qemu-utils"} < left and not {"postgresql", "qemu-system-x86"} & left
    assert host.run("dpkg --audit").stdout == ""
    host.restore(ready)
    done = host.run("sh /root/undo.sh && rm /root/undo.sh", timeout=600)
    assert "packages that others need now" in done.stdout and "Could not" not in done.stderr, done.describe()
    assert by_nqr.diff(host.fingerprint()) == []


def test_what_the_user_edited_is_kept_and_reported(installed: Installed) -> None:
    host = installed.host
    host.restore(installed.disk)
    edited = sorted(
        {
            str(undo["args"]["path"])  # type: ignore[index]
            for undo in _records(host)
            if undo["verb"] == "file" and undo["args"].get("ours")  # type: ignore[attr-defined]
        }
    )
    edited = [path for path in edited if host.exists(path)]
    assert "/etc/nqrust-microvm/manager.env" in edited and len(edited) > 10
    host.run(["sh", "-c", 'for f; do echo "# mine" >>"$f"; done', "sh", *edited])
    host.write("/etc/nqrust-microvm/notes.txt", "mine\n")
    said = nqr(host, *EVERYTHING, timeout=600).stdout
    missing = [path for path in edited if not host.exists(f"{path}.nqr-kept")]
    assert missing == []
    assert [path for path in edited if path not in said] == []
    assert host.read("/etc/nqrust-microvm/notes.txt") == "mine\n"
    assert host.run("systemctl list-units --all --no-legend 'nqrust*'").stdout == ""


OTHERS = """set -e
ip link add docker9 type bridge
iptables -t nat -A POSTROUTING -s 172.31.0.0/16 ! -o docker9 -j MASQUERADE
"""
FORWARDING = "/proc/sys/net/ipv4/ip_forward"


def test_what_others_use_and_what_was_marked_since_stay(installed: Installed) -> None:
    """A program that forwards came after nqr. The administrator asked for a package that was automatic."""
    host = installed.host
    host.restore(installed.disk)
    marked = next(name for name in host.run("apt-mark showauto").stdout.split() if name in installed.before.data["packages"])
    host.run(f"apt-mark manual {marked}")
    ready = host.snapshot()
    for way in ("nqr", "script"):
        host.restore(ready)
        host.wait_for(f"grep -qx 1 {FORWARDING}")
        host.run(OTHERS)
        command = [UNDO, *EVERYTHING[1:]] if way == "script" else ["nqr", *EVERYTHING]
        dry = host.run([*command, "--dry-run"])
        assert "undo: set net.ipv4.ip_forward" not in dry.stdout and host.read(FORWARDING) == "1\n", dry.describe()
        said = host.run(command, timeout=600)
        assert "net.ipv4.ip_forward stays 1, because others forward packets" in said.stdout, said.describe()
        assert "~ net.ipv4.ip_forward" not in said.stdout, said.describe()
        assert host.read(FORWARDING) == "1\n" and marked in host.run("apt-mark showmanual").stdout.split()
        left = installed.before.diff(host.fingerprint())
        theirs = re.compile(
            rf"docker9|172\.31\.|. (rules|links|routes) |forwarding|ip_forward|all/accept_redirects|{re.escape(marked)}"
        )
        assert [line for line in left if not theirs.search(line)] == [], said.describe()


@pytest.mark.matrix
def test_uninstall_after_a_kill_during_packages_leaves_a_clean_host() -> None:
    with Machine() as host:
        product.clone(host)
        before = host.fingerprint()
        host.start([f"{product.CLONE}/scripts/install/install.sh", "--mode", "manager", "--non-interactive"])
        host.wait_for("test -d /etc/postgresql-common", timeout=900)
        host.power_cut()
        uninstall = f"{product.CLONE}/scripts/install/uninstall.sh"
        host.run([uninstall, "--purge-data", "--drop-database", "--non-interactive"], timeout=900)
        assert before.diff(host.fingerprint()) == []
