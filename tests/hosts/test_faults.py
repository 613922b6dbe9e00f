"""Faults during an install: each run resumes or rolls back, and the error names the cause and the cure.

The host already has the distribution's packages and a warm installer cache, so each run reaches the fault quickly.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.hosts import killing, product
from tests.hosts.prepared import Bench, at_step, in_phase, prepared_host

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1800)]


CANARY = "ls /sys/class/net | grep -q ^tap"
"""It has a TAP; what decides on the VMM boots a guest without one."""


@pytest.fixture(scope="module")
def prepared() -> Iterator[Bench]:
    with prepared_host() as bench:
        yield bench


@pytest.fixture
def bench(prepared: Bench) -> Bench:
    killing.restore(prepared.host, prepared.ready)
    return prepared


# --- storage


@pytest.mark.parametrize("limit", ["size=40m", "size=2g,nr_inodes=400"], ids=["disk full", "out of inodes"])
def test_install_fails_when_opt_is_full(bench: Bench, limit: str) -> None:
    bench.host.run(f"mkdir -p /opt && mount -t tmpfs -o {limit},mode=755 none /opt")
    refused = bench.run()
    if refused.code == 3:  # told before anything was touched
        codes = {one.code for one in product.refusal(refused)}
        refused = bench.run(*(f"--ignore-preflight={code}" for code in codes))
    assert "space" in refused.stdout + refused.stderr
    bench.host.run("umount /opt")
    bench.went_back(refused)


def test_install_rolls_back_when_the_journal_disk_is_full(bench: Bench) -> None:
    """The installer changes nothing that it cannot record. The journal keeps space for the rollback."""
    state = "/var/lib/nqrust-microvm"
    bench.host.run(f"mkdir -p {state} && mount -t tmpfs -o size=4m,mode=755 none {state}")
    running = bench.start()
    bench.reached(running, in_phase("config"))
    bench.host.run(f"dd if=/dev/zero of={state}/filler bs=4k", check=False)
    code, text = running.wait(300), running.text()
    assert code == 5 and "is full" in text and "Free space" in text, text[-4000:]
    assert bench.host.listdir(state) == []
    bench.host.run(f"umount {state} && rmdir {state}")
    bench.is_as_before()


def test_install_reports_what_it_cannot_undo_in_a_read_only_etc(bench: Bench) -> None:
    """The rollback cannot undo everything. It records and reports the rest, and a later rollback undoes it."""
    running = bench.start()
    bench.reached(running, in_phase("config"))
    bench.host.run("mount --bind /etc /etc && mount -o remount,bind,ro /etc")
    code = running.wait(300)
    text = running.text()
    assert code in (1, 5) and "Read-only" in text, text[-4000:]
    bench.host.run("umount /etc")
    if code == 1:
        assert "stays recorded" in text, text[-4000:]
        back = bench.rollback()
        assert back.code == 0, back.describe()
    bench.is_as_before()


# --- packages and the network


def test_install_waits_for_a_busy_apt(bench: Bench) -> None:
    host = bench.host
    host.run("dpkg --purge --force-depends screen")
    holder = host.start(["python3", "-c",
                         "import fcntl,time;f=open('/var/lib/dpkg/lock-frontend','w');fcntl.lockf(f,fcntl.LOCK_EX);time.sleep(20)"])  # fmt: skip
    host.wait_for("grep -q POSIX /proc/locks")
    result = bench.run()
    holder.kill()
    assert result.code == 0, result.describe()
    assert "waiting for python3" in (result.stdout + result.stderr).lower(), result.describe()
    assert host.run("dpkg-query -W -f '${db:Status-Status}' screen").stdout == "installed"


def test_install_with_a_dead_mirror_changes_nothing(bench: Bench) -> None:
    host = bench.host
    host.run("dpkg --purge --force-depends screen; rm -rf /var/cache/apt/archives/*.deb")
    before = host.fingerprint()
    host.write(
        "/etc/apt/apt.conf.d/zz-dead", 'Acquire::http::Proxy "http://127.0.0.1:9";\nAcquire::https::Proxy "http://127.0.0.1:9";\n'
    )
    result = bench.run()
    if result.code == 0:
        pytest.skip("the package was still in a cache of the test host")
    assert result.code in (3, 5), result.describe()
    assert "NQR-" in result.stderr and "network" in result.stderr, result.describe()
    host.run(["rm", "/etc/apt/apt.conf.d/zz-dead"])
    assert "\n".join(before.diff(host.fingerprint())) == ""


def test_install_rolls_back_when_the_network_fails_during_pip(bench: Bench) -> None:
    bench.host.run("rm -rf /var/cache/nqrust-microvm/wheelhouse /var/cache/nqrust-microvm/wheels /var/cache/nqrust-microvm/pip")
    dead = "http://127.0.0.1:9"
    result = bench.run(env={"PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "1", "https_proxy": dead, "http_proxy": dead})
    if result.code == 0:
        pytest.skip("everything was still in a cache of the test host")
    assert result.code in (3, 5), result.describe()
    if result.code == 5:
        bench.went_back(result)
    bench.is_as_before()


# --- what others do


def test_install_changes_nothing_when_postgresql_cannot_start(bench: Bench) -> None:
    host = bench.host
    host.run("systemctl stop postgresql@15-main postgresql; systemctl mask postgresql@15-main")
    before = host.fingerprint()
    result = bench.run()
    assert result.code == 5, result.describe()
    assert "postgresql" in result.stderr.lower()
    assert "\n".join(before.diff(host.fingerprint())) == ""


def test_install_rolls_back_when_postgresql_rejects_logins(bench: Bench) -> None:
    host = bench.host
    hba = host.read("/etc/postgresql/15/main/pg_hba.conf")
    owner = host.stat("/etc/postgresql/15/main/pg_hba.conf")
    assert owner is not None
    host.write("/etc/postgresql/15/main/pg_hba.conf", "local all all reject\nhost all all all reject\n",
               mode=owner.mode, owner="postgres:postgres")  # fmt: skip
    host.run(["systemctl", "reload", "postgresql@15-main"])
    result = bench.run()
    assert result.code in (3, 5), result.describe()
    assert re.search(r"pg_hba|reject", result.stderr), result.describe()
    host.write("/etc/postgresql/15/main/pg_hba.conf", hba, mode=owner.mode, owner="postgres:postgres")
    host.run(["systemctl", "reload", "postgresql@15-main"])
    bench.is_as_before()


def test_install_rolls_back_when_a_port_is_taken_midway(bench: Bench) -> None:
    host = bench.host
    running = bench.start()
    bench.reached(running, in_phase("database"))
    squatter = host.start(["python3", "-m", "http.server", "18080", "--bind", "0.0.0.0"])
    code = running.wait(400)
    text = running.text()
    assert code == 5 and "18080" in text, text[-4000:]
    squatter.kill()
    bench.is_as_before()


def test_rollback_works_after_the_clock_jumps_back(bench: Bench) -> None:
    """The clock jumps back ten years: journal records and installed files lie in the future. Rollback still works."""
    host = bench.host
    running = bench.start()
    bench.reached(running, in_phase("config"))
    running.kill()
    records = killing.journal(host)
    text = "".join(json.dumps({**r, "at": r["at"] + 315e6}) + "\n" for r in records)
    host.write(killing.JOURNAL, text, mode=0o600)
    host.run("find /opt/nqrust-microvm /etc/nqrust-microvm /var/cache/nqrust-microvm -xdev -exec touch -h -d '+10 years' {} +")
    bench.completes()
    back = bench.rollback()
    assert back.code == 0, back.describe()


# --- stopped, killed, rebooted


def test_install_completes_after_a_sigstop_of_a_minute(bench: Bench) -> None:
    running = bench.start()
    bench.reached(running, in_phase("services"))
    running.signal(signal.SIGSTOP)
    time.sleep(60)
    running.signal(signal.SIGCONT)
    assert running.wait(400) == 0, running.text()[-4000:]
    again = bench.run()
    assert "(0 changed" in again.stdout, again.describe()


@pytest.mark.parametrize("phase", ["deps", "network", "database", "config", "services"])
def test_install_completes_after_a_power_cut(bench: Bench, phase: str) -> None:
    running = bench.start()
    bench.reached(running, in_phase(phase))
    bench.host.power_cut()
    running.kill()
    bench.completes()


@pytest.mark.parametrize("phase", ["deps", "kvm", "network", "database", "build", "config", "services"])
def test_install_killed_in_any_phase_is_rolled_back(bench: Bench, phase: str) -> None:
    running = bench.start()
    bench.reached(running, in_phase(phase))
    running.kill()
    back = bench.rollback()
    assert back.code == 0, back.describe()
    bench.is_as_before()


def test_install_killed_during_the_canary_boot_is_completed(bench: Bench) -> None:
    running = bench.start()
    bench.host.wait_for(CANARY, timeout=300)
    running.kill()
    bench.completes()
    assert product.document(bench.host, "vm", "ls")["items"] == []
    product.eventually("its TAP is gone", lambda: "tap" not in bench.host.run("ls /sys/class/net").stdout)
    assert not bench.host.run("grep -ls qemu-system /proc/[0-9]*/comm", check=False).stdout


@pytest.mark.parametrize("kind", ["python-environment", "build-release"])
def test_next_install_handles_a_child_of_the_killed_installer(bench: Bench, kind: str) -> None:
    """Only the installer dies (as by the OOM killer). Its child still runs when the next run begins."""
    bench.host.run(["rm", "-rf", f"{product.CACHE}/releases"])  # what is built already is not built again
    running = bench.start()
    bench.reached(running, at_step(kind))
    time.sleep(1)
    running.kill()
    bench.completes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("phase", ["deps", "services"])
def test_a_signal_rolls_the_install_back(bench: Bench, name: str, phase: str) -> None:
    running = bench.start()
    bench.reached(running, in_phase(phase))
    running.signal(getattr(signal, name))
    assert running.wait(300) == 130, running.text()[-4000:]
    assert name in running.text()
    bench.is_as_before()


def test_a_signal_during_the_canary_boot_rolls_back(bench: Bench) -> None:
    """All components are installed by then. The rollback removes them, the canary first."""
    running = bench.start()
    bench.host.wait_for(CANARY, timeout=300)
    running.signal(signal.SIGINT)
    assert running.wait(300) == 130, running.text()[-4000:]
    assert not bench.host.run("grep -ls qemu-system /proc/[0-9]*/comm", check=False).stdout
    bench.is_as_before()


def test_repeated_ctrl_c_still_rolls_back(bench: Bench) -> None:
    """The user presses Ctrl-C repeatedly, during the step and during the rollback."""
    running = bench.start()
    bench.reached(running, in_phase("services"))
    for _ in range(12):
        running.signal(signal.SIGINT)
        time.sleep(0.4)
    assert running.wait(300) == 130, running.text()[-4000:]
    bench.is_as_before()
    bench.completes()


def test_on_failure_keep_leaves_the_install_for_a_resume(bench: Bench) -> None:
    """--on-failure keep: the run exits with 1 and keeps all its changes. The next run resumes."""
    running = bench.start("--on-failure", "keep")
    bench.reached(running, in_phase("database"))
    squatter = bench.host.start(["python3", "-m", "http.server", "18080", "--bind", "0.0.0.0"])
    assert running.wait(400) == 1, running.text()[-4000:]
    assert bench.host.exists("/etc/nqrust-microvm/manager.env")
    squatter.kill()
    bench.completes()
