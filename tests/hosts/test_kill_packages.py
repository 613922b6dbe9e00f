"""Kill an install inside the distribution's package transaction, which the journal does not cover."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts import killing, product, warm
from tests.hosts.killing import INSTALL
from tests.hosts.machine import Fingerprint, Machine, Result, Snapshot

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]

MINIMAL = (INSTALL, "--mode", "minimal", "--non-interactive")


@dataclass
class Bench:
    host: Machine
    pristine: Fingerprint
    start: Snapshot


@pytest.fixture(scope="module")
def prepared() -> Iterator[Bench]:
    with Machine() as host:
        product.clone(host)
        host.run("rm /etc/hosts")  # netbase, which comes along, writes one then
        warm.fill(host)
        host.run([*MINIMAL, "--dry-run"], timeout=900)
        killing.plain_devices(host)
        pristine = host.fingerprint()
        yield Bench(host, pristine, host.snapshot())


@pytest.mark.parametrize("then", ["rollback", "resume"])
@pytest.mark.parametrize("how", ["the installer alone", "everything"])
@pytest.mark.parametrize("moment", ["unpack", "configure"])
def test_install_killed_inside_apt_is_resumed_or_rolled_back(prepared: Bench, moment: str, how: str, then: str) -> None:
    host = prepared.host
    killing.restore(host, prepared.start)
    running = host.start(MINIMAL)
    sign = f"grep -lasE 'dpkg.*--{moment}' /proc/[0-9]*/cmdline"
    deadline = time.monotonic() + 300
    while not host.run(sign, check=False).stdout:
        assert running.poll() is None and time.monotonic() < deadline, running.text()[-3000:]
    time.sleep(0.7)
    if how == "everything":
        host.power_cut()
    running.kill()
    if then == "rollback":
        back = host.run([INSTALL, "--non-interactive"], env={"NQR_VERB": "rollback"}, check=False, timeout=900)
        assert back.code == 0, back.describe()
        assert "\n".join(prepared.pristine.diff(host.fingerprint())) == "", back.describe()
        assert not host.exists("/var/lib/nqrust-microvm")
    else:
        result = host.run(MINIMAL, check=False, timeout=900)
        assert result.code == 0, result.describe()
        assert host.run(["dpkg", "--audit"]).stdout == ""
        assert not [r for r in killing.journal(host) if r["type"] == "failed"]


@pytest.mark.parametrize("lines", [3, 15, 40, 68, 110, 160, 210, 260, 300])
def test_power_cut_inside_dpkg_is_undone(prepared: Bench, lines: int) -> None:
    """Cut the power after a number of dpkg log lines: packages are half unpacked, unpacked or half configured."""
    host = prepared.host
    killing.restore(host, prepared.start)
    running = host.start(MINIMAL)
    # A base tree may have no log yet.
    count = "cat /var/log/dpkg.log 2>/dev/null | grep -cE ' status (half-installed|unpacked|half-configured|installed) ' || true"
    before = int(host.run(count).stdout)
    while int(host.run(count).stdout) < before + lines:
        assert running.poll() is None, running.text()[-3000:]
        time.sleep(0.02)
    host.power_cut()
    running.kill()
    torn = host.run("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | grep -v '^ii' | head -3", check=False).stdout
    back = host.run([INSTALL, "--non-interactive"], env={"NQR_VERB": "rollback"}, check=False, timeout=900)
    assert back.code == 0, f"{torn}{back.describe()}"
    assert "\n".join(prepared.pristine.diff(host.fingerprint())) == "", back.describe()
    assert host.run(["dpkg", "--audit"]).stdout == ""


AT = {
    # name, what dpkg's log says just then
    "before netbase's script": " configure netbase:",
    "while a control file is read": " install screen:",
    "among scripts": " configure ssl-cert:",
}


def _taken_back(host: Machine, way: str) -> Result:
    """Uninstall with all data, by nqr or by the undo script."""
    everything = ("--purge-data", "--drop-database")
    if way == "uninstall":
        return host.run([killing.UNINSTALL, *everything, "--non-interactive"], check=False, timeout=900)
    made = {"NQR_VERB": "uninstall"}
    host.run([INSTALL, "--non-interactive", "--script", "/root/undo.sh", *everything], env=made, timeout=900)
    return host.run("sh /root/undo.sh; code=$?; rm /root/undo.sh; exit $code", check=False, timeout=900)


@pytest.mark.parametrize("way", ["uninstall", "script"])
@pytest.mark.parametrize("moment", AT)
def test_files_of_killed_maintainer_scripts_are_removed(prepared: Bench, moment: str, way: str) -> None:
    """Such files are /etc/hosts from netbase's postinst, and dpkg's own tmp.ci."""
    host = prepared.host
    killing.restore(host, prepared.start)
    running = host.start(MINIMAL)
    while not host.run(["grep", "-q", AT[moment], "/var/log/dpkg.log"], check=False).ok:
        assert running.poll() is None, running.text()[-3000:]
    hit = killing.end_tree(running)
    assert "dpkg" in hit or "apt-get" in hit, hit
    back = _taken_back(host, way)
    assert back.code == 0 and "Could not be undone" not in back.stderr, back.describe()
    assert "\n".join(prepared.pristine.diff(host.fingerprint())) == "", back.describe()
    assert host.run(["dpkg", "--audit"]).stdout == ""


@pytest.mark.parametrize("then", ["resume", "uninstall", "script"])
def test_install_killed_while_postgresql_makes_its_cluster(prepared: Bench, then: str) -> None:
    """A killed initdb leaves PG_VERSION and postmaster.pid: no cluster, and none can be made there again."""
    host = prepared.host
    killing.restore(host, prepared.start)
    running = host.start(MINIMAL)
    while not host.run("grep -lasE '^/usr/lib/postgresql/[0-9]+/bin/(initdb|postgres)' /proc/[0-9]*/cmdline", check=False).stdout:
        assert running.poll() is None, running.text()[-3000:]
    while not host.run("ls /var/lib/postgresql/*/main/PG_VERSION", check=False).ok:
        assert running.poll() is None, running.text()[-3000:]
    hit = killing.end_tree(running)
    assert "initdb" in hit, hit
    if then == "resume":
        result = host.run(MINIMAL, check=False, timeout=900)
        assert result.code == 0, result.describe()
        assert host.run(["dpkg", "--audit"]).stdout == ""
        return
    back = _taken_back(host, then)
    assert back.code == 0, back.describe()
    assert "\n".join(prepared.pristine.diff(host.fingerprint())) == "", back.describe()
