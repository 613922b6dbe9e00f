"""Scopes found by identity. The process kind runs here for real: screen, a lock, a stand-in for a VMM."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.fakes.host import FakeHost
from tests.live.agent.own_users import USER

from nqrust.agent import users
from nqrust.agent.api import console
from nqrust.agent.processes import parse_stat
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes import limits
from nqrust.agent.scopes.port import Launch, Process, Scope
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.scopes.procfs import scope_of_cgroup, scope_of_environ, tops_of
from nqrust.agent.scopes.systemd import SystemdScopes
from nqrust.agent.settings import Settings
from nqrust.host.local import LocalHost

STAND_IN = ("tail", "-f", "/dev/null")
"""A VMM: no program that a launch itself runs bears its name."""

CGROUPS = {
    "unified": "0::/nqrust.slice/nqrust-vms.slice/fc-0b8f-1.scope\n",
    "hybrid": "3:cpu,cpuacct:/\n1:name=systemd:/nqrust.slice/nqrust-vms.slice/fc-0b8f-1.scope\n0::/nqrust.slice/fc-0b8f-1.scope\n",
    "v1": "9:memory:/\n1:name=systemd:/nqrust-vms.slice/fc-0b8f-1.scope\n",
    "in a container": "0::/system.slice/nspawn.service/payload/nqrust-vms.slice/fc-0b8f-1.scope/sub\n",
}


@pytest.mark.parametrize("text", CGROUPS.values(), ids=CGROUPS.keys())
def test_a_scope_is_named_by_its_cgroup_on_every_hierarchy(text: str) -> None:
    payload = "/system.slice/nspawn.service/payload"
    init = f"0::{payload}/init.scope\n" if payload in text else "9:memory:/\n1:name=systemd:/init.scope\n0::/init.scope\n"
    assert scope_of_cgroup(text, tops_of(init)) == "fc-0b8f-1"


@pytest.mark.parametrize(
    "text",
    [
        "0::/\n",
        "0::/system.slice/nqrust-agent.service\n",
        "0::/nqrust.slice/fc-a.service\n",
        "0::/nqrust.slice/notfc-a.scope\n",
        # A user's systemd makes these: `systemd-run --user --scope --unit fc-a --slice nqrust-vms`.
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/fc-a.scope\n",
        "0::/user.slice/user-1000.slice/user@1000.service/nqrust.slice/nqrust-vms.slice/fc-a.scope\n",
        "1:name=systemd:/user.slice/user-1000.slice/user@1000.service/nqrust-vms.slice/fc-a.scope\n0::/\n",
        "0::/../nqrust-vms.slice/fc-a.scope\n",
        "7:memory:/nqrust-vms.slice/fc-a.scope\n0::/\n",
    ],
)
def test_other_cgroups_are_no_scopes(text: str) -> None:
    assert scope_of_cgroup(text, tops_of("1:name=systemd:/init.scope\n0::/init.scope\n")) is None
    assert scope_of_cgroup(text, tops_of("0::/system.slice/nspawn.service/payload/init.scope\n")) is None


def test_the_environment_names_the_scope_and_the_agent_it_belongs_to() -> None:
    environ = b"PATH=/bin\0NQRUST_SCOPE=fc-a1\0NQRUST_RUN_DIR=/srv/fc\0"
    assert scope_of_environ(environ, "/srv/fc") == "fc-a1"
    assert scope_of_environ(environ, "/srv/other") is None
    assert scope_of_environ(b"NQRUST_SCOPE=fc-a1\0", "/srv/fc") is None


def test_a_comm_with_spaces_and_parentheses_is_read() -> None:
    text = "42 (a ) b) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0"
    assert parse_stat(text) == ("a ) b", True, 98765)
    for threads, lives in (("1", False), ("2", True)):
        assert parse_stat(f"42 (qemu) Z 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 98765 0 0") == ("qemu", lives, 98765)


def test_terminal_and_launcher_are_not_the_vmm() -> None:
    processes = (Process(1, "screen", 0), Process(2, "sh", 0), Process(3, "qemu-system-x86", 0))
    assert [p.pid for p in Scope("fc-a", processes).vmm] == [3]


def test_systemd_gets_one_scope_with_the_vm_inside(tmp_path: Path) -> None:
    host, settings = FakeHost.debian12(), Settings()
    host.on("systemd-run", prefix=True)
    seen: list[tuple[str, ...]] = []
    run = host.run
    host.run = lambda cmd, **more: (seen.append(cmd.argv), run(cmd, **more))[1]  # type: ignore[method-assign]
    SystemdScopes(host, settings).spawn(Launch("a1", "VM web1", ("qemu", "-x"), "/srv/fc/vms/a1", USER))
    (argv,) = seen
    assert argv[:6] == ("systemd-run", "--scope", "--collect", "--quiet", "--unit", "fc-a1")
    assert argv[argv.index("--property") + 1] == "Before=nqrust-agent.service", "at a shutdown the agent ends first"
    assert any("-dmS fc-a1 " in word for word in argv), "the launcher starts the terminal"
    assert argv[-2:] == ("qemu", "-x")


@pytest.mark.parametrize("kernel", ["5.14", "older"])
@pytest.mark.parametrize("group", ["fc-a1.scope", "fc-a1.scope/sub"])
def test_a_scope_is_killed_at_once_where_the_kernel_can(kernel: str, group: str) -> None:
    host = FakeHost.debian12()
    path = f"/nqrust.slice/nqrust-vms.slice/{group}"
    for file, text in {
        "/proc/stat": "btime 1\n",
        "/proc/1/cgroup": "0::/init.scope\n",
        "/proc/77/cgroup": f"0::{path}\n",
        "/proc/77/stat": "77 (qemu) S 1 77 77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0",
        f"/sys/fs/cgroup{path}/cgroup.kill" if kernel == "5.14" else f"/sys/fs/cgroup{path}/cgroup.procs": "",
    }.items():
        host.put(file, text)
    for process in ("self", "77"):
        host.put(f"/proc/{process}/ns/net", "")
        host.symlink("pid:[1]", f"/proc/{process}/ns/pid")
    host.on("tee", prefix=True)
    host.processes.add(77)
    SystemdScopes(host, Settings()).kill("a1", signal.SIGKILL)
    at_once = kernel == "5.14" and not group.endswith("sub")
    assert [command.argv for command in host.commands] == ([("tee", f"/sys/fs/cgroup{path}/cgroup.kill")] if at_once else [])
    assert host.signals == ([] if at_once else [(77, signal.SIGKILL)])
    host.processes.add(77)
    SystemdScopes(host, Settings()).kill("a1", signal.SIGTERM)
    assert host.signals[-1] == (77, signal.SIGTERM), "any other signal goes to each process"


# --- for real


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[ProcessScopes, Callable[..., Launch]]]:
    host = LocalHost()
    if os.geteuid() != 0 or host.which("screen") is None:
        pytest.skip("needs root and screen")
    state = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go there
    settings = Settings(run_dir=str(tmp_path / "fc"), state_dir=str(state))
    launcher.prepare(host, settings)
    scopes = ProcessScopes(host, settings)

    def launch(*argv: str, vm_id: str = "unit-test-1") -> Launch:
        directory = tmp_path / "fc" / "vms" / vm_id
        directory.mkdir(parents=True, exist_ok=True)
        user = USER + int(vm_id[-1]) - 1
        os.chown(directory, 0, user)  # as the store does: the group of the folder is the VM's user
        if scopes.get(vm_id) is None:
            launcher.prepare_vm(host, settings, user, str(directory))
        return Launch(vm_id, "VM test", argv, str(directory), user)

    yield scopes, launch
    for vm_id in scopes.all():
        scopes.kill(vm_id, signal.SIGKILL)
    shutil.rmtree(state)


def until(condition: Callable[[], object], seconds: float = 40.0, log: str = "") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen in time {Path(log).read_text()[-2000:] if log else ''}"
        time.sleep(0.05)


def vmm(scopes: ProcessScopes, vm_id: str = "unit-test-1") -> list[int]:
    scope = scopes.get(vm_id)
    return [process.pid for process in scope.vmm] if scope else []


def test_a_second_start_never_yields_a_second_vmm(real: tuple[ProcessScopes, Callable[..., Launch]]) -> None:
    scopes, launch = real
    scopes.spawn(launch(*STAND_IN))
    until(lambda: vmm(scopes))
    first = vmm(scopes)
    for _ in range(3):
        scopes.spawn(launch(*STAND_IN))
    time.sleep(0.5)
    assert vmm(scopes) == first
    until(lambda: len(scopes.all()["unit-test-1"].processes) == 4)  # launcher, screen, its placeholder, VMM
    assert not os.path.exists(launch("x").exit_status)


def test_a_program_of_a_user_with_the_mode_of_root_is_no_process_of_a_vm(
    real: tuple[ProcessScopes, Callable[..., Launch]],
) -> None:
    """su(1) is one: its effective user is root, and its environment is whatever the user likes."""
    scopes, launch = real
    environment = launcher.environment(launch("x"), scopes._settings)
    folder = Path(tempfile.mkdtemp(prefix="nqr-", dir="/var/lib"))
    try:
        folder.chmod(0o755)
        program = folder / "firecracker"
        shutil.copy("/usr/bin/sleep", program)
        program.chmod(0o4755)
        with subprocess.Popen([str(program), "300"], env=environment, user=54_321, group=54_321) as stranger:
            until(lambda: os.stat(f"/proc/{stranger.pid}").st_uid == 0)
            try:
                assert b"NQRUST_SCOPE=fc-unit-test-1" in Path(f"/proc/{stranger.pid}/environ").read_bytes()
                assert scopes.get("unit-test-1") is None
            finally:
                stranger.kill()
        with subprocess.Popen([str(program), "300"], env=environment) as roots:
            until(lambda: vmm(scopes) == [roots.pid])
            roots.kill()
    finally:
        shutil.rmtree(folder)


def test_what_is_told_quickly_about_a_vm_is_certain(real: tuple[ProcessScopes, Callable[..., Launch]]) -> None:
    scopes, launch = real
    assert not scopes.vacant("unit-test-1"), "it has no folder, so its user is not known"
    spawned = launch("sleep", "300")  # the name of a launcher's program: no VMM
    until(lambda: scopes.vacant("unit-test-1"))  # the processes of the test before may be about to end
    assert scopes.seen("unit-test-1") is None
    with open(spawned.lock, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not scopes.vacant("unit-test-1"), "a launcher that has started nothing yet"
    assert scopes.vacant("unit-test-1")
    own = replace(spawned, argv=(*users.become(USER), *STAND_IN))
    scopes.spawn(own)
    until(lambda: vmm(scopes))
    assert not scopes.vacant("unit-test-1")
    seen = scopes.seen("unit-test-1")
    assert seen is not None and [process.pid for process in seen.vmm] == vmm(scopes)
    assert seen.name == own.name and seen.vmm == scopes.all()["unit-test-1"].vmm
    scopes.kill("unit-test-1", signal.SIGKILL)
    until(lambda: scopes.get("unit-test-1") is None)
    assert scopes.vacant("unit-test-1") and scopes.seen("unit-test-1") is None


def test_the_end_of_the_terminal_does_not_end_the_vmm(real: tuple[ProcessScopes, Callable[..., Launch]]) -> None:
    scopes, launch = real
    scopes.spawn(launch(*STAND_IN))
    until(lambda: vmm(scopes))
    first = vmm(scopes)
    (screen,) = [p.pid for p in scopes.all()["unit-test-1"].processes if p.comm == "screen"]
    os.kill(screen, signal.SIGKILL)
    time.sleep(0.3)
    assert vmm(scopes) == first


def test_the_kernel_holds_a_vmm_to_its_limits_and_nothing_of_them_stays(
    real: tuple[ProcessScopes, Callable[..., Launch]],
) -> None:
    scopes, launch = real
    host = LocalHost()
    if not limits.make_groups(host, "fc-unit-test-1", limits.Limits(400, 150, 260)):
        pytest.skip("no control group can be made here")
    scopes.spawn(replace(launch(*STAND_IN), limits=limits.Limits(400, 150, 260)))
    until(lambda: vmm(scopes))
    found = limits.in_force(host, vmm(scopes)[0])
    assert found is not None
    assert {found.memory_mib, found.cpu_percent, found.tasks} <= {400, 150, 260, None}
    scopes.kill("unit-test-1", signal.SIGKILL)
    until(lambda: scopes.get("unit-test-1") is None)
    scopes.tidy()
    assert limits.make_groups(host, "fc-unit-test-1", limits.Limits(1, 1, 1))
    limits.remove_empty_groups(host, "fc-unit-test-1")


def test_how_the_vmm_ended_is_kept_and_nothing_stays(real: tuple[ProcessScopes, Callable[..., Launch]]) -> None:
    scopes, launch = real
    spawned = launch("sh", "-c", "echo the guest said this; exit 7")
    scopes.spawn(spawned)
    until(lambda: os.path.exists(spawned.exit_status) and scopes.get("unit-test-1") is None)
    assert Path(spawned.exit_status).read_text() == "7\n"
    assert "the guest said this" in Path(spawned.log).read_text()


async def test_no_byte_of_a_viewer_is_a_command_to_screen(
    real: tuple[ProcessScopes, Callable[..., Launch]], tmp_path: Path
) -> None:
    """A command of screen would be one on the host, although not root's."""
    scopes, launch = real
    # Neither sh nor cat: a name of their own makes the stand-in a VMM.
    program = "import os, tty; tty.setraw(0); print('ready', flush=True)\nwhile data := os.read(0, 99): os.write(1, data)"
    spawned = launch(sys.executable, "-c", program)
    scopes.spawn(spawned)
    log = Path(spawned.log)
    until(lambda: log.exists() and b"ready" in log.read_bytes())
    (screen,) = [process.pid for process in scopes.all()["unit-test-1"].processes if process.comm == "screen"]
    store = SimpleNamespace(read=lambda _: SimpleNamespace(user=USER), directory=lambda _: spawned.directory)
    session = SimpleNamespace(host=LocalHost(), settings=scopes._settings, store=store)
    terminal = console.open_viewer(session, spawned.vm_id, f"{screen}.{spawned.name}")  # type: ignore[arg-type]
    try:
        await terminal.read()
        await asyncio.sleep(0.5)
        keys = b"".join(key + command for key in (b"\xff", b"\x01", b"\xc3\xbf") for command in (b"c", b":screen\r"))
        await terminal.write(keys)
        await asyncio.sleep(0.5)
        await terminal.write(f"touch {tmp_path}/on-the-host\r".encode())
        until(lambda: b"on-the-host" in log.read_bytes())
        assert keys in log.read_bytes()
        assert not (tmp_path / "on-the-host").exists()
    finally:
        await terminal.close()


OTHERS = """
import json, os, subprocess, time
child = subprocess.Popen(["tail", "-f", "/dev/null"])
while True:
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.getuid() or pid == os.getpid():
                continue
            found[pid] = False
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
            found[pid] = os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            pass
    print(json.dumps([child.pid, found]), flush=True)
    time.sleep(0.1)
"""


async def test_a_vmm_reaches_neither_memory_nor_namespaces_of_a_viewer(
    real: tuple[ProcessScopes, Callable[..., Launch]],
) -> None:
    """A viewer is no part of its VM's scope, and has none of its limits."""
    scopes, launch = real
    spawned = launch(*users.become(USER), sys.executable, "-c", OTHERS)
    scopes.spawn(spawned)

    def told() -> tuple[int, dict[str, object]]:
        lines = [line for line in Path(spawned.log).read_text().splitlines() if line.startswith("[") and line.endswith("]")]
        return tuple(json.loads(lines[-1])) if lines else (0, {})

    until(lambda: Path(spawned.log).exists() and told()[0], log=spawned.log)
    (screen,) = [process.pid for process in scopes.all()["unit-test-1"].processes if process.comm == "screen"]
    store = SimpleNamespace(read=lambda _: SimpleNamespace(user=USER), directory=lambda _: spawned.directory)
    session = SimpleNamespace(host=LocalHost(), settings=scopes._settings, store=store)
    terminal = console.open_viewer(session, spawned.vm_id, f"{screen}.{spawned.name}")  # type: ignore[arg-type]
    try:
        await terminal.read()
        until(lambda: str(terminal._pid) in told()[1])
        child, found = told()
        assert found[str(child)], "the test can see a hole"
        assert found[str(terminal._pid)] is False
        kept = [
            line.split()[1] for line in Path(f"/proc/{terminal._pid}/status").read_text().splitlines() if line.startswith("Cap")
        ]
        assert set(kept) == {f"{1 << 8:016x}"}, "CAP_SETPCAP alone, in the bounding set too"
    finally:
        await terminal.close()


def test_a_vmm_that_changes_its_environment_is_not_taken_for_another_vms(
    real: tuple[ProcessScopes, Callable[..., Launch]],
) -> None:
    scopes, launch = real
    claims = ("env", "NQRUST_SCOPE=fc-unit-test-2", *STAND_IN)
    spawned = launch(*users.become(USER), *claims)
    os.chown(spawned.directory, 0, USER)
    scopes.spawn(spawned)
    until(lambda: any(process.comm == "tail" for scope in scopes.all().values() for process in scope.processes))
    assert set(scopes.all()) == {"unit-test-1"}


def test_a_vmm_that_hides_its_files_in_proc_is_found_and_its_environment_is_not_read(
    real: tuple[ProcessScopes, Callable[..., Launch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root owns these files then. PR_SET_DUMPABLE of prctl(2)."""
    scopes, launch = real
    hide = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('hidden', flush=True); time.sleep(300)"
    spawned = launch(*users.become(USER), sys.executable, "-c", hide)
    scopes.spawn(spawned)
    until(lambda: "hidden" in Path(spawned.log).read_text())
    read: list[str] = []
    real_read = LocalHost.read_bytes
    monkeypatch.setattr(LocalHost, "read_bytes", lambda self, path, limit=None: read.append(path) or real_read(self, path, limit))
    (hidden,) = vmm(scopes)
    seen = scopes.seen("unit-test-1")
    assert os.stat(f"/proc/{hidden}/environ").st_uid == 0, "it hides"
    assert seen is not None and [process.pid for process in seen.vmm] == [hidden]
    assert f"/proc/{hidden}/stat" in read and f"/proc/{hidden}/environ" not in read


def test_killing_a_scope_ends_all_of_it_and_no_other(real: tuple[ProcessScopes, Callable[..., Launch]]) -> None:
    scopes, launch = real
    scopes.spawn(launch(*STAND_IN))
    scopes.spawn(launch(*STAND_IN, vm_id="unit-test-2"))
    until(lambda: vmm(scopes) and vmm(scopes, "unit-test-2"))
    scopes.kill("unit-test-1", signal.SIGKILL)
    until(lambda: scopes.get("unit-test-1") is None)
    assert vmm(scopes, "unit-test-2")
