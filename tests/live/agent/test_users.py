"""Users of VMs: one number a VM, and what runs under it reaches nothing else."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from tests.live.agent.conftest import VM, Bench

from nqrust.agent.disks import tools
from nqrust.agent.errors import Failed
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes.port import Launch, Process, Scope, console_log, exit_status
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.settings import Settings
from nqrust.agent.store import Store, VmRecord
from nqrust.agent.users import become, free
from nqrust.agent.vms.status import Observer
from nqrust.contract.names import VM_USERS, mac_address, tap_name
from nqrust.host.local import LocalHost

HOST = LocalHost()
USER, OTHER_USER = VM_USERS[7], VM_USERS[8]
OTHER = VM.replace("0b8f", "1b8f")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def disk(tmp_path: Path) -> str:
    path = tmp_path / "disk.ext4"
    path.write_bytes(b"\0" * 4096)
    os.chown(path, USER, USER)
    return str(path)


def test_a_disk_tool_runs_as_the_owner_of_the_disk_without_privileges_and_network(disk: str) -> None:
    said = tools.run(
        HOST,
        disk,
        "sh",
        "-c",
        "id -u; id -g; cat /proc/self/oom_score_adj; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; cat /proc/net/dev",
    ).stdout
    assert said.split()[:3] == [str(USER), str(USER), "1000"], "no VM ends for its memory"
    assert {line.split()[1] for line in said.splitlines() if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in said
    assert [line.split(":")[0].strip() for line in said.splitlines() if line.strip().startswith(("eth", "host", "wl"))] == []


def test_no_process_of_a_disk_tool_outlives_it(disk: str) -> None:
    tools.run(HOST, disk, "sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo started")
    deadline = time.monotonic() + 10
    while (left := processes_of(USER)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_a_disk_tool_is_refused_for_a_disk_of_root(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"")
    with pytest.raises(Failed) as failed:
        tools.run(HOST, str(tmp_path / "disk"), "true")
    assert failed.value.code == "NQR-VMM-121"


def test_a_link_that_a_disk_tool_leaves_is_not_read(disk: str, tmp_path: Path) -> None:
    (tmp_path / "dumped").symlink_to("/etc/shadow")
    (tmp_path / "plain").write_text("x")
    os.chown(tmp_path / "plain", USER, USER)
    assert tools.written(HOST, disk, str(tmp_path / "dumped"), 1 << 20) is None
    assert tools.written(HOST, disk, str(tmp_path / "missing"), 1 << 20) is None
    assert tools.written(HOST, disk, str(tmp_path / "plain"), 1 << 20) == b"x"
    assert tools.written(HOST, disk, str(tmp_path / "plain"), 0) is None, "it is longer than what was to be there"


def test_no_two_vms_of_a_host_get_one_user(tmp_path: Path) -> None:
    store = Store(HOST, str(tmp_path))
    made = [claimed(store, f"vm-{number}") for number in range(3)]
    first = made[0]
    assert first in VM_USERS and made == [first, first + 1, first + 2]
    (tmp_path / "vm-1" / "vm.json").write_text("{")
    assert claimed(store, "vm-3") == first + 3, "the folder of a VM whose record is torn still names its user"
    HOST.remove_tree(str(tmp_path / "vm-0"))
    assert claimed(store, "vm-4") == first, "the number of a VM that is gone is free"
    assert (tmp_path / "vm-4").stat().st_gid == first and (tmp_path / "vm-4").stat().st_mode & 0o777 == 0o710


def claimed(store: Store, vm_id: str) -> int:
    spec = {"id": vm_id, "name": vm_id, "vcpus": 1, "memory_mib": 64, "disk_mib": 16, "mac": mac_address(vm_id), "tap": tap_name(vm_id), "ip": None,
            "image": {"name": "x", "rootfs": BLOB, "kernel": BLOB}, "created_at": datetime.now(timezone.utc)}  # fmt: skip
    record = VmRecord.model_validate(spec)
    store.claim_user(record)
    known = store.read(vm_id)
    assert known is not None and known.user == record.user
    return record.user


BLOB = {"file": "x", "size": 0, "sha256": "0" * 64}


def test_two_agents_of_one_machine_give_out_different_users() -> None:
    one, other = free((), "/srv/fc/vms"), free((), "/srv/other/vms")
    assert one != other and {one, other} <= {*VM_USERS}
    assert free({one, one + 1}, "/srv/fc/vms") == one + 2
    assert free({*VM_USERS} - {VM_USERS[3]}, "/srv/fc/vms") == VM_USERS[3]


def test_a_process_is_found_by_its_user_when_its_environment_is_empty(tmp_path: Path) -> None:
    """The jailer clears it."""
    (tmp_path / "fc" / "vms" / VM).mkdir(parents=True)
    os.chown(tmp_path / "fc" / "vms" / VM, 0, USER)
    settings = Settings(run_dir=str(tmp_path / "fc"), state_dir=str(tmp_path))
    ours = subprocess.Popen([*become(USER), "tail", "-f", "/dev/null"], env={})
    theirs = subprocess.Popen([*become(OTHER_USER), "tail", "-f", "/dev/null"], env={"NQRUST_RUN_DIR": str(tmp_path / "fc")})
    try:
        deadline = time.monotonic() + 10
        while len(processes_of(USER) + processes_of(OTHER_USER)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        scope = ProcessScopes(HOST, settings).get(VM)
        assert scope is not None and [process.pid for process in scope.vmm] == [ours.pid], (
            "and not another user's, whatever it says of itself"
        )
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()


@pytest.mark.parametrize("lacking", ["screen", "mount"])
def test_a_launch_that_fails_leaves_a_status_and_says_why(tmp_path: Path, lacking: str) -> None:
    (tmp_path / "state").mkdir()
    settings = Settings(run_dir=str(tmp_path / "fc"), state_dir=str(tmp_path / "state"))
    launcher.prepare(HOST, settings)
    directory = tmp_path / "fc" / "vms" / VM
    directory.mkdir(parents=True)
    launcher.prepare_vm(HOST, settings, USER, str(directory))
    argv = launcher.argv(Launch(VM, "VM web1", ("true",), str(directory), USER), settings)
    broken = tuple(word.replace(f"{lacking} -", f"no-such-{lacking} -") for word in argv)
    assert broken != argv
    subprocess.run(broken, check=True, timeout=30, env={"PATH": os.environ["PATH"], "SCREENDIR": str(tmp_path)})
    deadline = time.monotonic() + 30
    while not os.path.exists(exit_status(str(directory))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Path(exit_status(str(directory))).read_text() == "70\n"
    assert "launcher: " in (directory / "console.log").read_text()


def test_a_vm_has_ended_while_its_launcher_puts_the_terminal_away(bench: Bench) -> None:
    bench.service.put(bench.spec(run=True))
    Path(exit_status(str(bench.vm_dir()))).write_text("0\n")
    scope = Scope("fc-x", (Process(1, "sh", 0.0), Process(2, "screen", 0.0)))
    observer: Observer = bench.service.observer
    found = observer.status(VM, scope, tap=False)
    assert found is not None
    assert (found.state, found.exit_reason) == ("stopped", "The guest powered off or rebooted.")


RESTARTS, POWERS_OFF = "[  12.3] reboot: Restarting system", "[  12.3] reboot: Power down"


@pytest.mark.parametrize(
    ("image", "off_by_reset", "said", "rebooted"),
    [
        ("debian-12", False, f"{POWERS_OFF}\n{RESTARTS}\n", True),
        ("debian-12", False, f"{RESTARTS}\n{POWERS_OFF}\n", False),
        ("debian-12", False, "web1 login: \n", False),
        ("debian-12", True, f"{RESTARTS}\n", True),
        ("tiny", False, f"{RESTARTS}\n", True),
        ("tiny", True, f"{RESTARTS}\n", False),  # its `poweroff` resets a machine that cannot switch itself off
    ],
)
def test_a_guest_that_rebooted_is_told_from_one_that_powered_off(
    bench: Bench, image: str, off_by_reset: bool, said: str, rebooted: bool
) -> None:
    bench.service.put(bench.spec(run=True))
    record = bench.service.store.read(VM)
    assert record is not None
    record.image.name = image
    bench.service.store.write(record)
    driver = bench.service.drivers[record.vmm]
    driver.capabilities = replace(driver.capabilities, off_by_reset=off_by_reset)
    Path(console_log(str(bench.vm_dir()))).write_text(said)
    Path(exit_status(str(bench.vm_dir()))).write_text("0\n")
    found = bench.service.observer.status(VM, None, tap=False)
    assert found is not None and (found.state, found.rebooted) == ("stopped", rebooted)
    assert found.exit_reason == ("The guest rebooted." if rebooted else "The guest powered off or rebooted.")


def processes_of(user: int) -> list[str]:
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/status") if f"\nUid:\t{user}\t" in read(path)]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
