"""Programs of a VM's user that do all they can to stay, and the limits that all of its programs have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.agent.own_users import USER
from tests.places import ROOT

from nqrust.agent import survivors, users
from nqrust.agent.disks import tools
from nqrust.agent.errors import Failed
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes import limits
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.scopes.procfs import LARGEST
from nqrust.agent.settings import Settings
from nqrust.agent.users import become
from nqrust.agent.vmm.port import largest_saved
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest
from nqrust.host.errors import OutputTooLong
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed

from .conftest import VM, Bench

HOST = LocalHost()
BOMBER = USER + 2
STATES: list[str] = []
PYTHON = (sys.executable, "-I", "-S", "-c")
BOMB = """\
import os, time
while True:
    try:
        if os.fork():
            time.sleep(0.02)
    except OSError:
        time.sleep(0.02)
"""
HUNTER = """\
import os, sys
me = os.getpid()
while True:
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and int(name) != me and os.stat('/proc/' + name).st_uid == os.getuid():
                with open('/proc/' + name + '/cmdline', 'rb') as file:
                    if b'listdir' not in file.read():
                        os.kill(int(name), 19)
        except OSError:
            pass
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def start(*argv: str, user: int = USER) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["prlimit", "--nproc=40", *become(user), *argv], start_new_session=True)


def until(user: int = USER) -> None:
    deadline = time.monotonic() + 10
    while user not in survivors.running(HOST):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def cleared() -> Iterator[None]:
    yield
    survivors.end(HOST, USER)
    while STATES:
        shutil.rmtree(STATES.pop())


def test_a_fork_bomb_ends() -> None:
    start(*PYTHON, BOMB, user=BOMBER)
    until(BOMBER)
    time.sleep(1)
    assert survivors.end(HOST, BOMBER)
    time.sleep(0.3)
    assert BOMBER not in survivors.running(HOST)


def test_a_program_that_stops_everything_of_its_user_ends(cleared: None) -> None:
    """It would stop a killer that ran as its user."""
    for _ in range(2):
        start(*PYTHON, HUNTER)
    until()
    time.sleep(0.5)
    began = time.monotonic()
    assert survivors.end(HOST, USER) and time.monotonic() - began < 10


def test_a_program_in_namespaces_of_its_own_ends(cleared: None) -> None:
    held = start("unshare", "--user", "--map-root-user", "--pid", "--fork", "sleep", "300")
    until()
    time.sleep(0.3)
    if held.poll() is not None:
        pytest.skip("users cannot make namespaces here")
    assert survivors.end(HOST, USER) and USER not in survivors.running(HOST)


def test_a_program_that_looks_like_a_zombie_ends(cleared: None) -> None:
    """Its first thread has ended, and another one runs."""
    program = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(300,)).start(); "
    zombie = start(*PYTHON, program + "ctypes.CDLL(None).syscall(60, 0)")  # exit(2), of this thread alone
    deadline = time.monotonic() + 10
    while "State:\tZ" not in Path(f"/proc/{zombie.pid}/status").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert USER in survivors.running(HOST)
    assert survivors.end(HOST, USER)
    assert zombie.wait(timeout=10) == -9


def test_the_kernel_tells_at_once_that_a_user_has_no_process() -> None:
    """In other namespaces too. A zombie is no reason to start a killer."""
    user = USER + 7  # of no other test: PID 1 may collect their zombies late
    assert survivors.absent(user)
    for namespaces in ((), ("unshare", "--pid", "--net", "--mount", "--fork", "--kill-child")):
        one = subprocess.Popen([*namespaces, *become(user), "sleep", "300"], start_new_session=True)
        until(user)
        assert not survivors.absent(user) and not survivors.none(HOST, user)
        assert survivors.absent(user + 1)
        assert survivors.end(HOST, user)
        if not namespaces:
            assert not survivors.absent(user), "its parent has not asked for its exit status"
            assert survivors.none(HOST, user)
        one.wait(timeout=10)
        assert survivors.absent(user)


def test_nothing_of_another_user_ends(cleared: None) -> None:
    other = start("sleep", "300", user=USER + 1)
    root = subprocess.Popen(["sleep", "300"])
    start("sleep", "300")
    try:
        until(USER + 1)
        until()
        assert survivors.end(HOST, USER)
        assert other.poll() is None and root.poll() is None and USER + 1 in survivors.running(HOST)
    finally:
        for process in (other, root):
            process.kill()
            process.wait()


@pytest.mark.parametrize("verb", ["start", "stop", "delete", "snapshot", "restore", "write"])
def test_what_left_its_scope_ends_before_the_vm_is_worked_on(bench: Bench, verb: str) -> None:
    service = bench.service
    service.put(bench.spec(run=verb in ("stop", "delete")))
    snapshots = Snapshots(service)
    if verb == "restore":
        snapshots.create(VM, "before")
    user = bench.vm_dir().stat().st_gid
    survivor = start("setsid", "--wait", "sleep", "300", user=user)
    until(user)
    if verb == "start":
        service.put(bench.spec(run=True))
    elif verb == "write":
        service.put(bench.spec(run=False, guest_token="token-2"))
    elif verb == "stop":
        service.stop(VM, StopRequest(timeout_seconds=5))
    elif verb == "snapshot":
        snapshots.create(VM, "before")
    elif verb == "restore":
        snapshots.restore(VM, "before")
    else:
        (bench.vm_dir() / "vm.json").write_text("{")
        service.delete(VM)
    assert survivor.wait(timeout=10) == -9 and user not in survivors.running(HOST)


def test_a_number_that_a_process_has_is_given_to_no_vm(bench: Bench) -> None:
    first = users.free((), bench.service.store.vms_dir)
    survivor = start("sleep", "300", user=first)
    until(first)
    try:
        bench.service.put(bench.spec(run=False))
        assert bench.vm_dir().stat().st_gid == first + 1
        assert survivor.poll() is None
    finally:
        survivor.kill()
        survivor.wait()


def test_what_cannot_be_ended_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.service.put(bench.spec(run=False))
    monkeypatch.setattr(survivors, "end", lambda host, user: False)
    with pytest.raises(Failed) as failed:
        bench.service.delete(VM)
    assert failed.value.code == "NQR-VMM-103" and bench.vm_dir().exists()


# --- disk tools


@pytest.fixture
def disk(tmp_path: Path) -> str:
    path = tmp_path / "disk.ext4"
    path.write_bytes(b"\0" * 4096)
    os.chown(path, USER, USER)
    return str(path)


def test_a_disk_tool_ends_with_the_agent(disk: str, cleared: None) -> None:
    agent = "import sys; from nqrust.agent.disks import tools; from nqrust.host.local import LocalHost;"
    agent += "tools.run(LocalHost(), sys.argv[1], 'sleep', '300')"
    process = subprocess.Popen([sys.executable, "-c", agent, disk])
    until()
    time.sleep(0.5)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while USER in survivors.running(HOST) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert USER not in survivors.running(HOST)


class OldSetpriv(LocalHost):
    """A host with the setpriv(1) of util-linux 2.32, as RHEL 8 has it."""

    def run(self, cmd: Command) -> Completed:
        assert "--pdeathsig" not in cmd.argv
        return Completed(cmd.argv, 0, "", "", 0.0) if cmd.argv == ("setpriv", "--help") else super().run(cmd)


def test_without_a_new_setpriv_a_disk_tool_works_and_ends_before_its_disk_is_used_again(bench: Bench, cleared: None) -> None:
    service = bench.service
    service.put(bench.spec(run=False))
    disk, user = str(bench.vm_dir() / "disk.ext4"), bench.vm_dir().stat().st_gid
    tools._CAN_DIE.clear()  # another setpriv answers from here on
    host = OldSetpriv()
    assert tools.run(host, disk, "id", "-u").stdout.split() == [str(user)]
    agent = "import sys; from tests.live.agent.test_survivors import OldSetpriv; from nqrust.agent.disks import tools;"
    agent += "tools.run(OldSetpriv(), sys.argv[1], 'sleep', '300')"
    process = subprocess.Popen([sys.executable, "-c", agent, disk], cwd=ROOT)
    until(user)
    process.kill()
    process.wait()
    service.put(bench.spec(run=False, guest_token="token-2"))
    assert user not in survivors.running(HOST)


def test_a_disk_tool_has_limits(disk: str) -> None:
    told = tools.run(HOST, disk, "sh", "-c", "ulimit -c; ulimit -n; ulimit -u 2>/dev/null || ulimit -p").stdout.split()
    assert told == ["0", "64", "64"]


def test_a_disk_tool_that_never_stops_talking_is_ended(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LARGEST_OUTPUT", 1 << 20)
    for stream in ("", ">&2"):
        began = time.monotonic()
        with pytest.raises(OutputTooLong):
            tools.run(HOST, disk, "sh", "-c", f"exec yes {'x' * 1000} {stream}")
        assert time.monotonic() - began < 30 and USER not in survivors.running(HOST)
    assert len(tools.run(HOST, disk, "sh", "-c", "yes | head -c 1048576").stdout) == 1 << 20, "as much as is allowed"


# --- what a VM's programs inherit


def launched(tmp_path: Path, *argv: str) -> tuple[ProcessScopes, Launch, Path]:
    state = tempfile.mkdtemp(prefix="nqr-", dir=tmp_path.parents[2])  # short: Unix sockets go there
    STATES.append(state)
    settings = Settings(run_dir=str(tmp_path / "fc"), state_dir=state)
    launcher.prepare(HOST, settings)
    directory = tmp_path / "fc" / "vms" / VM
    directory.mkdir(parents=True)
    os.chown(directory, 0, USER)
    launcher.prepare_vm(HOST, settings, USER, str(directory))
    command = (*become(USER), *argv)
    launch = Launch(VM, "VM web1", command, str(directory), USER, None, 1 << 30)
    scopes = ProcessScopes(HOST, settings)
    scopes.spawn(launch)
    return scopes, launch, directory


def log_of(launch: Launch) -> str:
    deadline = time.monotonic() + 20
    while not os.path.exists(launch.exit_status) and time.monotonic() < deadline:
        time.sleep(0.05)
    return Path(launch.log).read_text()


needs_screen = pytest.mark.skipif(HOST.which("screen") is None, reason="needs screen")


@needs_screen
def test_a_vmm_has_limits_and_no_descriptor_of_its_launcher(tmp_path: Path, cleared: None) -> None:
    show = "echo limits $(ulimit -c) $(ulimit -n) $(ulimit -f); for n in $(seq 3 30); do [ ! -e /proc/$$/fd/$n ] || echo has $n; done"
    _, launch, _ = launched(tmp_path, "sh", "-c", show)
    log = log_of(launch)
    assert f"limits 0 2048 {(1 << 30) // 512}" in log.replace(str((1 << 30) // 1024), str((1 << 30) // 512))
    assert "has" not in log, "neither the lock nor the terminal's second name"


def test_no_file_may_be_longer_than_the_longest_disk_or_the_memory(bench: Bench) -> None:
    bench.service.put(bench.spec(volumes=[{"device": "vdb", "size_mib": 2048, "keep": False}]))
    assert [launch.largest_file for launch in bench.scopes.spawned] == [2048 << 20]
    bench.service.stop(VM, StopRequest(force=True))
    bench.service.put(bench.spec(memory_mib=4096, generation=2, volumes=[{"device": "vdb", "size_mib": 2048, "keep": False}]))
    assert bench.scopes.spawned[-1].largest_file == largest_saved(4096) > 4096 << 20


@needs_screen
@pytest.mark.parametrize(
    ("trap", "said"),
    [
        ('rm -f "$0"; mkfifo "$0"', "screen opened no terminal"),
        ('ln -sf /etc/shadow "$0"', "screen opened no terminal"),
        ('echo "1 /dev/pts/0/../../x" >"$0"', "screen has no terminal"),
        ('echo "-1 /dev/pts/0" >"$0"', "screen has no process"),
        ('echo "1 /dev/pts/99999" >"$0"', "the terminal cannot be opened"),
        ('echo "1 /dev/pts/ROOTS" >"$0"', "the terminal does not belong to the VM's user"),
    ],
)
def test_the_launcher_is_not_held_by_what_screen_wrote(
    tmp_path: Path, trap: str, said: str, cleared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, roots = os.openpty()
    try:
        trap = trap.replace("ROOTS", os.ttyname(roots).rpartition("/")[2])
        monkeypatch.setattr(launcher, "_TERMINAL", f"{trap}; exec sleep infinity")
        _, launch, _ = launched(tmp_path, "true")
        log = log_of(launch)
    finally:
        os.close(master)
        os.close(roots)
    assert Path(launch.exit_status).read_text() == "70\n"
    assert f"launcher: {said}" in log and "root:" not in log


# --- how the agent finds them


@needs_screen
def test_no_environment_of_a_vms_program_is_read(tmp_path: Path, cleared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be of any length, and in memory that never answers (userfaultfd)."""
    scopes, _, _ = launched(tmp_path, "tail", "-f", "/dev/null")
    deadline = time.monotonic() + 20
    while not ((scope := scopes.get(VM)) and scope.vmm) and time.monotonic() < deadline:
        time.sleep(0.05)
    read: list[tuple[str, int | None]] = []
    real = LocalHost.read_bytes
    monkeypatch.setattr(
        LocalHost, "read_bytes", lambda self, path, limit=None: read.append((path, limit)) or real(self, path, limit)
    )
    scope = scopes.get(VM)
    assert scope is not None and [process.comm for process in scope.vmm] == ["tail"]
    environments = {path: limit for path, limit in read if path.endswith("/environ")}
    assert set(environments.values()) == {LARGEST}
    for process in scope.processes:
        mine = f"/proc/{process.pid}"
        assert (f"{mine}/environ" in environments) == (os.stat(mine).st_uid == 0)
    scopes.kill(VM, 9)


@needs_screen
def test_a_control_group_is_killed_at_once(tmp_path: Path, cleared: None) -> None:
    group = next(
        (
            f"{top}/fc-guard-test"
            for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
            if os.path.exists(f"{top}/cgroup.procs") and os.path.exists(f"{top}/cgroup.controllers")
        ),
        None,
    )
    if group is None:
        pytest.skip("no control groups of version 2")
    try:
        os.mkdir(group)
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        if not os.path.exists(f"{group}/cgroup.kill"):
            pytest.skip("this kernel has no cgroup.kill")
        bomb = start(*PYTHON, BOMB, user=BOMBER)
        Path(group, "cgroup.procs").write_text(str(bomb.pid))
        assert not limits.kill_group(HOST, bomb.pid, "fc-another"), "only the VM's own group"
        assert bomb.poll() is None
        assert limits.kill_group(HOST, bomb.pid, "fc-guard-test")
        assert bomb.wait(timeout=10) == -9
        assert not limits.kill_group(HOST, os.getpid(), "fc-guard-test")
    finally:
        survivors.end(HOST, BOMBER)
        time.sleep(0.2)
        os.rmdir(group)
