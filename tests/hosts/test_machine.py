"""The fixtures themselves: a host is pristine, behaves like a machine, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.hosts.conftest import TwoHosts
from tests.hosts.machine import Machine, MachineError, TestNetwork, reap
from tests.hosts.machine.inside import REPOSITORY
from tests.hosts.machine.outside import outside

FETCH = "import sys,urllib.request as r; print(r.urlopen(sys.argv[1], timeout=3).status)"


def test_a_systemd_host_is_up_with_its_own_name_and_address(debian12: Machine) -> None:
    assert debian12.run("systemctl is-system-running").stdout.strip() == "running"
    assert debian12.read("/proc/1/comm").strip() == "systemd"
    assert debian12.run(["hostname"]).stdout.strip() == debian12.name
    assert debian12.address in debian12.run("ip -4 address show host0").stdout


def test_a_host_is_pristine(debian12: Machine) -> None:
    assert not debian12.run("python3 -m venv /tmp/x", check=False).ok, "python3-venv is for the bootstrap to bring"
    assert debian12.listdir("/opt") == [] and debian12.listdir("/srv") == []
    assert "PYTHONPATH" not in debian12.run("env").stdout
    system = [change.path for change in debian12.changes() if not change.path.startswith(("/var/", "/tmp/", "/etc/.pwd.lock"))]
    assert system == ["/etc/machine-id"]


def test_packages_come_from_apt_and_pip(debian12: Machine) -> None:
    debian12.run("apt-get update -q && apt-get install -qy python3-venv", timeout=400)
    debian12.run("python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -q distro", timeout=300)
    assert debian12.run("/tmp/venv/bin/python -c 'import distro; print(distro.id())'").stdout.strip() == "debian"


def test_a_plain_host_has_no_systemd_but_a_network(debian12_plain: Machine) -> None:
    assert debian12_plain.read("/proc/1/comm").strip() != "systemd"
    assert not debian12_plain.exists("/run/systemd/system")
    assert debian12_plain.address in debian12_plain.run("ip -4 address show host0").stdout
    debian12_plain.write("/root/kept", "yes")
    debian12_plain.power_cut()
    assert debian12_plain.read("/root/kept") == "yes"
    assert debian12_plain.run("ip route get 10.77.0.1", check=False).ok


def test_two_hosts_see_each_other_until_the_cable_is_pulled(two_hosts: TwoHosts) -> None:
    first, second = two_hosts
    server = second.start(["python3", "-m", "http.server", "8000"])
    url = f"http://{second.address}:8000/"
    assert first.wait_for(["python3", "-c", FETCH, url], timeout=15).stdout.strip() == "200"
    second.cut_network()
    assert not first.run(["python3", "-c", FETCH, url], check=False).ok
    second.join_network()
    assert first.wait_for(["python3", "-c", FETCH, url], timeout=15).ok
    server.kill()


def test_hosts_do_not_disturb_each_others_services_or_devices(two_hosts: TwoHosts) -> None:
    first, second = two_hosts
    for host in two_hosts:
        host.run("systemd-run --unit same-name sleep 1000")
    first.run("systemctl stop same-name")
    assert second.run("systemctl is-active same-name").stdout.strip() == "active"
    if first.exists("/dev/kvm"):
        before = os.stat("/dev/kvm").st_mode
        first.run("chmod 0777 /dev/kvm")
        assert os.stat("/dev/kvm").st_mode == before
        stat = second.stat("/dev/kvm")
        assert stat is not None and stat.mode == 0o600


def test_machine_snapshot_restores_the_disk(debian12: Machine) -> None:
    debian12.write("/etc/first", "1")
    snapshot = debian12.snapshot()
    assert debian12.read("/etc/first") == "1"
    assert not any(change.path.startswith("/etc/first") for change in debian12.changes())
    debian12.run("rm /etc/first; echo 2 > /etc/second; mv /opt /opt2")
    assert {("/etc/first", "removed"), ("/etc/second", "added"), ("/opt", "removed")} <= {
        (change.path, change.what) for change in debian12.upper_directory
    }
    debian12.restore(snapshot)
    assert debian12.read("/etc/first") == "1"
    assert not debian12.exists("/etc/second") and debian12.exists("/opt")


def test_a_snapshot_starts_another_host(network: TestNetwork, debian12: Machine) -> None:
    debian12.write("/etc/installed", "yes")
    snapshot = debian12.snapshot()
    with Machine(network=network, snapshot=snapshot) as copy:
        assert copy.read("/etc/installed") == "yes"
        assert copy.run(["hostname"]).stdout.strip() == copy.name != debian12.name


def test_power_cut_reboot_and_reading_a_host_that_is_off(debian12: Machine) -> None:
    boot = debian12.read("/proc/sys/kernel/random/boot_id")
    assert boot  # the kernel is shared, so it is the processes that tell a reboot
    debian12.run("systemd-run --unit before sleep 1000; echo x > /root/written; sync")
    debian12.power_cut(boot=False)
    assert not debian12.running
    assert debian12.read("/root/written") == "x\n"
    debian12.boot()
    assert debian12.run("systemctl is-active before", check=False).stdout.strip() == "inactive"
    debian12.reboot()
    assert debian12.read("/root/written") == "x\n"


def test_a_reboot_from_inside(debian12: Machine) -> None:
    before = debian12.leader
    debian12.run("systemctl --no-block reboot")
    debian12.wait_for_reboot()
    assert debian12.leader not in (before, None)
    assert debian12.address in debian12.run("ip -4 address show host0").stdout


def test_changes_since_a_mark(debian12: Machine) -> None:
    debian12.run("mkdir /etc/d && echo a > /etc/d/a && echo b > /etc/d/b")
    mark = debian12.mark()
    assert [change for change in debian12.changes(mark) if change.path.startswith("/etc")] == []
    debian12.run("echo b2 > /etc/d/b; rm /etc/d/a; touch -d 2001-01-01 /etc/d/c")
    assert [(change.path, change.what) for change in debian12.changes(mark) if change.path.startswith("/etc")] == [
        ("/etc/d/a", "removed"), ("/etc/d/b", "modified"), ("/etc/d/c", "added"),
    ]  # fmt: skip


def test_fingerprint_sees_what_an_installer_does_and_nothing_else(debian12: Machine) -> None:
    before = debian12.fingerprint()
    assert before.diff(debian12.fingerprint()) == []
    debian12.run(
        "useradd -r svc; ip link add br9 type bridge; ip address add 10.9.0.1/24 dev br9; echo 1 > /proc/sys/net/ipv4/ip_forward;"
        "echo x > /opt/file; chmod 600 /etc/hostname; printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /etc/systemd/system/u.service;"
        "systemctl daemon-reload; systemctl start u; chmod 660 /dev/kvm 2>/dev/null || true"
    )
    text = "\n".join(before.diff(debian12.fingerprint()))
    for expected in ("+ users svc", "+ groups svc", "+ links br9", "ip_forward: 0 => 1", "+ files /opt/file", "~ files /etc/hostname",
                     "+ units active u.service", "+ processes /bin/sleep N"):  # fmt: skip
        assert expected in text
    debian12.run(
        "systemctl stop u; rm /etc/systemd/system/u.service; systemctl daemon-reload; chmod 644 /etc/hostname; rm /opt/file; ip link del br9;"
        "userdel svc; echo 0 > /proc/sys/net/ipv4/ip_forward; chmod 600 /dev/kvm 2>/dev/null || true"
    )
    assert before.diff(debian12.fingerprint()) == []


def test_machine_runs_commands(debian12_plain: Machine, tmp_path: Path) -> None:
    host = debian12_plain
    with pytest.raises(MachineError, match="nonsense"):
        host.run("echo nonsense; exit 3")
    assert host.run("exit 3", check=False).code == 3
    assert host.run(["cat"], input=b"given").stdout == "given"
    assert host.run(["cat"]).stdout == "", "standard input is closed"
    assert host.run("id -un; echo $HOME", user="daemon").stdout.split()[0] == "daemon"
    assert host.run("echo $X", env={"X": "a b"}).stdout == "a b\n"
    started = time.monotonic()
    with pytest.raises(MachineError, match="still running"):
        host.run("sleep 60", timeout=0.5)
    assert time.monotonic() - started < 20
    assert "sleep\x0060" not in host.run("cat /proc/[0-9]*/cmdline").stdout
    running = host.start(["sleep", "100"])
    assert running.poll() is None
    time.sleep(0.2)
    running.signal(signal.SIGTERM)
    assert running.wait(5) == -signal.SIGTERM
    host.write("/root/dir/file", b"\x00\xff", mode=0o640, owner="root:daemon")
    stat = host.stat("/root/dir/file")
    assert stat is not None and (stat.mode, stat.owner, stat.group, stat.size) == (0o640, "root", "daemon", 2)
    assert host.read_bytes("/root/dir/file") == b"\x00\xff"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f").write_text("pushed")
    host.push(tmp_path, "/root/pushed")
    assert host.read("/root/pushed/sub/f") == "pushed"


def test_machine_receives_a_clone_of_the_repository(debian12_plain: Machine) -> None:
    to = debian12_plain.clone_repository("/root/a place/nqrust")
    assert debian12_plain.read(f"{to}/pyproject.toml") == (REPOSITORY / "pyproject.toml").read_text()
    assert not debian12_plain.exists(f"{to}/.venv") and not debian12_plain.exists(f"{to}/.git")


def _outside(machine: str, bridge: str) -> list[str]:
    """Everything on the testing machine that belongs to a host or network with these names."""
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"nqr-{machine} " in line]
    found += [
        word
        for word in outside("ip", "-brief", "link").stdout.decode().split()
        if word.split("@")[0] in (f"vb-{machine}", bridge)
    ]
    found += [line for line in outside("iptables-save").stdout.decode().splitlines() if f'"nqr-test:{bridge}"' in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/nqr-test-hosts/{machine}")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"--machine={machine}\0" in path.read_text():
                found.append(f"process {path.parent.name}")
        except OSError:
            continue
    return found


def test_closing_a_machine_leaves_nothing() -> None:
    machine = Machine()
    name, bridge, folder = machine.name, machine.network.bridge, machine.folder
    assert len(_outside(name, bridge)) >= 7, "a mount, two links, three rules, a process"
    machine.close()
    machine.close()
    assert _outside(name, bridge) == []
    assert not folder.exists()


def test_a_killed_run_is_cleaned_up_by_the_next() -> None:
    script = (
        "import time\nfrom tests.hosts.machine import Machine\nm = Machine()\n"
        "print(m.name, m.folder, m.network.bridge, flush=True)\ntime.sleep(600)"
    )
    victim = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True)
    assert victim.stdout is not None
    name, folder, bridge = victim.stdout.readline().split()
    victim.kill()
    victim.wait()
    assert _outside(name, bridge)
    reap()
    # Another run may have started on the freed names by now; what must be gone is the victim's own folder and record.
    assert not Path(folder).exists()
    assert not Path(f"{folder}.json").exists()
    assert not any(folder in line for line in Path("/proc/self/mounts").read_text().splitlines())


def test_forwarding_is_given_back_when_the_last_network_goes() -> None:
    script = (
        "import os\nfrom pathlib import Path\nfrom tests.hosts.machine import TestNetwork\nswitch = Path('/proc/sys/net/ipv4/ip_forward')\n"
        "before = switch.read_text()\n"
        "with TestNetwork(), TestNetwork() as inner:\n    inner.remove()\n    assert switch.read_text() == '1\\n'\n"
        "assert switch.read_text() == before"
    )
    # In a network namespace and with records of its own: the machine's switch belongs to whoever else runs tests now.
    with tempfile.TemporaryDirectory() as cache:
        outside("unshare", "--net", sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{script}",
                env={"NQR_TEST_CACHE": cache})  # fmt: skip
