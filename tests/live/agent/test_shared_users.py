"""The folder of a VM that came from a backup or another host names a user that a running VM of this host has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.live.agent.conftest import VM, Bench
from tests.live.agent.own_users import USER

from nqrust.agent import users
from nqrust.agent.scopes import launch as launcher
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.settings import Settings
from nqrust.host.local import LocalHost

OTHER = VM.replace("0b8f", "1b8f")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def running(user: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user: the VMM of the VM that was here first."""
    with subprocess.Popen([*users.become(user), "sleep", "300"]) as process:
        try:
            deadline = time.monotonic() + 20
            while os.stat(f"/proc/{process.pid}").st_uid != user:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def from_elsewhere(bench: Bench) -> int:
    """Bring the folder of a second VM with the user of the first, which is returned."""
    bench.service.put(bench.spec(run=True))
    first = bench.service.store.read(VM)
    assert first is not None
    bench.service.put(bench.spec(OTHER, name="db1", ip="10.0.0.21", run=False))
    folder = bench.vm_dir(OTHER)
    record = json.loads((folder / "vm.json").read_text())
    (folder / "vm.json").write_text(json.dumps({**record, "user": first.user}))
    for path in (folder, *folder.iterdir()):
        os.chown(path, 0 if path.stat().st_uid == 0 else first.user, first.user if path.stat().st_gid else 0)
    return first.user


def test_its_start_gives_it_a_user_of_its_own_and_ends_nobody(bench: Bench) -> None:
    user = from_elsewhere(bench)
    with running(user) as vmm:
        bench.service.put(bench.spec(OTHER, name="db1", ip="10.0.0.21", made=True, run=True, generation=2))
        time.sleep(0.2)
        assert vmm.poll() is None
    other = bench.service.store.read(OTHER)
    assert other is not None and other.user not in (0, user)
    assert bench.vm_dir(OTHER).stat().st_gid == other.user == (bench.vm_dir(OTHER) / "disk.ext4").stat().st_uid


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_its_end_ends_nobody_else(bench: Bench, verb: str) -> None:
    user = from_elsewhere(bench)
    sockets = Path(launcher.screen_dir(bench.service.settings, user))
    sockets.mkdir(parents=True, exist_ok=True)
    with running(user) as vmm:
        if verb == "delete":
            bench.service.delete(OTHER)
        else:
            bench.service.end_survivors(OTHER)
        time.sleep(0.2)
        assert vmm.poll() is None and sockets.exists()


def test_a_copy_of_a_folder_beside_it_is_no_vm(bench: Bench) -> None:
    bench.service.put(bench.spec(run=True))
    subprocess.run(["cp", "-a", bench.vm_dir(VM), bench.vm_dir(f"{VM}-bak")], check=True)
    assert bench.service.store.read(f"{VM}-bak") is None
    assert [record.id for record in bench.service.store.all()] == [VM]


@pytest.mark.parametrize("copy", ["a-first", "z-last"])
def test_a_running_vm_stays_itself_beside_a_copy_of_its_folder(tmp_path: Path, copy: str) -> None:
    host = LocalHost()
    if host.which("screen") is None:
        pytest.skip("needs screen")
    state = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go there
    settings = Settings(run_dir=str(tmp_path / "fc"), state_dir=str(state))
    launcher.prepare(host, settings)
    folder = tmp_path / "fc/vms/unit-test-1"
    folder.mkdir(parents=True)
    os.chown(folder, 0, USER)
    launcher.prepare_vm(host, settings, USER, str(folder))
    argv = (*users.become(USER), sys.executable, "-c", "import time; time.sleep(300)")
    scopes = ProcessScopes(host, settings)
    try:
        scopes.spawn(Launch("unit-test-1", "VM test", argv, str(folder), USER))
        deadline = time.monotonic() + 40
        while (seen := scopes.seen("unit-test-1")) is None:
            assert time.monotonic() < deadline, (folder / "console.log").read_text()
            time.sleep(0.05)
        subprocess.run(["cp", "-a", folder, folder.with_name(copy)], check=True)
        assert scopes.all().keys() == {"unit-test-1"}
        assert scopes.seen(copy) is None and scopes.get(copy) is None
        assert scopes.seen("unit-test-1") == seen
    finally:
        for vm_id in scopes.all():
            scopes.kill(vm_id, signal.SIGKILL)
        shutil.rmtree(state)
