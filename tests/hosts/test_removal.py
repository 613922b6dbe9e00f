"""An uninstall ends and gives the host back: in two steps, by nqr and by its script, whatever was stopped, removed or
locked before. On a machine as clouds give them out: without sudo, root's password locked, with systemd and without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import killing, product, warm
from tests.hosts.killing import PURGE, UNINSTALL
from tests.hosts.machine import Fingerprint, Machine, Result, Snapshot
from tests.hosts.machine.base import PACKAGES

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

ALL = ("--purge-data", "--drop-database", "--non-interactive")
UNDO = "/var/lib/nqrust-microvm/undo.sh"
WITHOUT_SUDO = tuple(name for name in PACKAGES if name != "sudo")


@dataclass
class Installed:
    host: Machine
    before: Fingerprint
    disk: Snapshot


@pytest.fixture(scope="module", params=["systemd", "plain"])
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    with Machine(systemd=request.param == "systemd", packages=WITHOUT_SUDO) as host:
        assert host.run("getent shadow root").stdout.split(":")[1] in ("*", "!", "!*")
        product.clone(host)
        killing.plain_devices(host)
        before = host.fingerprint()
        warm.fill(host)
        product.bootstrap(host, "--mode", "production", "--non-interactive")
        yield Installed(host, before, host.snapshot())


@pytest.fixture(scope="module")
def uninstalled(installed: Installed) -> Snapshot:
    """After an uninstall that keeps the data, and a reboot."""
    killing.restore(installed.host, installed.disk)
    done(installed.host)
    return installed.host.snapshot()


def done(host: Machine, *arguments: str) -> Result:
    result = host.run([UNINSTALL, "--non-interactive", *arguments], check=False, timeout=900)
    assert result.code == 0, result.describe()
    return result


def purged(installed: Installed, said: Result) -> None:
    host = installed.host
    assert "\n".join(installed.before.diff(host.fingerprint())) == "", said.describe()
    assert not host.exists("/var/lib/nqrust-microvm") and not host.exists(product.CACHE)


def server(host: Machine) -> str:
    """PostgreSQL processes that run."""
    return host.run("grep -lsx postgres /proc/[0-9]*/comm", check=False).stdout


def test_uninstall_then_purge_removes_all_and_install_adds_no_sudo(installed: Installed) -> None:
    """Without an init system PostgreSQL does not run when the second step drops the database."""
    host = installed.host
    killing.restore(host, installed.disk)
    assert not host.exists("/usr/bin/sudo") and not host.exists("/etc/sudoers.d")
    assert "The database and PostgreSQL stay" in done(host).stdout
    assert host.exists("/srv/images/tiny") and not host.exists("/usr/local/bin/nqr")
    assert bool(server(host)) == host.systemd
    purged(installed, done(host, "--purge-data", "--drop-database"))


@pytest.mark.parametrize("way", ["nqr", "script"])
def test_foreign_database_keeps_postgresql_installed(installed: Installed, way: str) -> None:
    """A purge of Debian's postgresql-common would drop the database. Without it, the same command finishes."""
    host = installed.host
    killing.restore(host, installed.disk)
    as_postgres = "cd / && runuser -u postgres --"
    if not host.systemd:
        host.run("pg_ctlcluster 15 main start")
    host.run(f"{as_postgres} createdb shop && {as_postgres} psql -qd shop -c 'CREATE TABLE orders AS SELECT 1 AS id'")
    finish = [UNDO, *ALL] if way == "script" else [UNINSTALL, *ALL]
    first = host.run(finish, check=False, timeout=900)
    assert first.code == (1 if way == "script" else 0), first.describe()
    assert "/var/lib/postgresql/15/main holds data that nqr did not create" in first.stdout + first.stderr, first.describe()
    if not host.systemd:
        host.run("pg_ctlcluster 15 main start", check=False)
    assert host.run(f"{as_postgres} psql -Atd shop -c 'SELECT id FROM orders'").stdout == "1\n"
    host.run(f"{as_postgres} dropdb shop")
    purged(installed, host.run(finish, timeout=900))


BETWEEN = {
    "packages first kept": ("--keep-packages", "true"),
    "server stopped by hand": ("", "! test -d /run/systemd/system || systemctl disable --now postgresql postgresql@15-main"),
    "server masked": ("", "! test -d /run/systemd/system || systemctl mask --now postgresql@15-main"),
    "server's packages purged": ("", "apt-get purge -y -q 'postgresql*'"),
    "its data removed": ("", "! test -d /run/systemd/system || systemctl stop postgresql@15-main; rm -r /var/lib/postgresql/15"),
    "programs removed": ("", "apt-get remove -y -q iptables screen dnsmasq-base qemu-system-x86"),
}


@pytest.mark.parametrize("way", ["nqr", "script"])
@pytest.mark.parametrize("between", BETWEEN)
def test_purge_completes_after_changes_since_uninstall(
    installed: Installed, uninstalled: Snapshot, between: str, way: str
) -> None:
    host = installed.host
    flag, command = BETWEEN[between]
    killing.restore(host, installed.disk if flag else uninstalled)
    if flag:
        done(host, *flag.split())
    host.run(command, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
    if way == "nqr":
        said = done(host, "--purge-data", "--drop-database")
    else:
        done(host, "--script", "/root/undo.sh", "--purge-data", "--drop-database")
        host.run(["rm", "-rf", product.CACHE])
        said = host.run("sh /root/undo.sh; code=$?; rm /root/undo.sh; exit $code", check=False, timeout=600)
        assert said.code == 0 and "Could not be undone" not in said.stderr, said.describe()
    host.run("rm -f /etc/systemd/system/postgresql@15-main.service")  # the mask is the administrator's
    purged(installed, said)


@pytest.mark.parametrize("way", ["nqr", "script"])
def test_a_database_whose_server_was_removed_waits_for_it(installed: Installed, uninstalled: Snapshot, way: str) -> None:
    """Nobody can tell then whether the data folder holds databases of others too."""
    host, quiet = installed.host, {"DEBIAN_FRONTEND": "noninteractive"}
    killing.restore(host, uninstalled)
    host.run("apt-get remove -y -q postgresql-15 postgresql", env=quiet, timeout=300)
    finish = [UNDO, *ALL] if way == "script" else [UNINSTALL, *ALL]
    first = host.run(finish, check=False, timeout=900)
    assert first.code == (1 if way == "script" else 0), first.describe()
    assert "again" in first.stdout + first.stderr and host.exists("/var/lib/postgresql/15/main/PG_VERSION"), first.describe()
    host.run("apt-get install -y -q --no-install-recommends postgresql-15", env=quiet, timeout=300)
    purged(installed, host.run(finish, timeout=900))


def test_purge_leaves_a_stopped_cluster_stopped(installed: Installed) -> None:
    """An administrator stopped a cluster from before the install. Purge drops the database and leaves the cluster stopped."""
    host = installed.host
    if not host.systemd:
        pytest.skip("without an init system nobody else runs a cluster")
    killing.restore(host, installed.disk)
    done(host, "--keep-packages")
    host.run("systemctl stop postgresql@15-main")
    done(host, "--purge-data", "--drop-database", "--keep-packages")
    assert server(host) == ""
    host.run("systemctl start postgresql@15-main")
    listed = host.run("runuser -u postgres -- psql -Atc 'select datname from pg_database; select rolname from pg_roles'").stdout
    assert "nexus" not in listed.split()


PRIVILEGED = re.compile(r"(?m)^(\s*)components=COMPONENTS,$")


@pytest.mark.parametrize("way", ["nqr", "script"])
def test_uninstall_removes_sudo_that_the_release_needed(way: str) -> None:
    with Machine(packages=WITHOUT_SUDO) as host:
        product.clone(host)
        path = f"{product.CLONE}/src/nqrust/installer/release/bundled.py"
        privilege = 'Privilege(component="manager", argv=("{libexec}/nqrust-helper", "disk-write"), why="a test"),'
        text, count = PRIVILEGED.subn(rf"\1components=COMPONENTS,\n\1privileges=({privilege}),", host.read(path))
        assert count == 1
        host.write(path, text.replace("    ImageSource,\n", "    ImageSource,\n    Privilege,\n", 1))
        killing.plain_devices(host)
        before = host.fingerprint()
        product.bootstrap(host, "--mode", "manager", "--non-interactive")
        assert host.run(["visudo", "-c"]).ok and "nqrust-helper disk-write" in host.read("/etc/sudoers.d/nqrust")
        if way == "nqr":
            said = host.run([UNINSTALL, *PURGE], timeout=900)
        else:
            product.nqr(host, "uninstall", "--script", "/root/undo.sh", "--purge-data", "--drop-database")
            said = host.run("sh /root/undo.sh && rm /root/undo.sh", timeout=600)
        assert "\n".join(before.diff(host.fingerprint())) == "", said.describe()
