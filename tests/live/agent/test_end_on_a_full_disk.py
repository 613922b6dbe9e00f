"""How a VMM ended is kept on a full disk, too: a guest that powered off is not started again as one that failed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.live.agent.own_users import USER

from nqrust.agent.scopes import launch
from nqrust.agent.scopes.port import Launch
from nqrust.agent.scopes.process import ProcessScopes
from nqrust.agent.settings import Settings
from nqrust.host.local import LocalHost

VM = "unit-test-1"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[ProcessScopes, Path]]:
    """The scopes of an agent with a small disk, and the folder of a VM on it."""
    host, disk = LocalHost(), tmp_path / "fc"
    if os.geteuid() != 0 or host.which("screen") is None:
        pytest.skip("needs root and screen")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    state = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go there
    settings = Settings(run_dir=str(disk), state_dir=str(state))
    launch.prepare(host, settings)
    folder = disk / "vms" / VM
    folder.mkdir(parents=True)
    os.chown(folder, 0, USER)
    launch.prepare_vm(host, settings, USER, str(folder))
    scopes = ProcessScopes(host, settings)
    yield scopes, folder
    scopes.kill(VM, signal.SIGKILL)
    until(lambda: scopes.get(VM) is None)
    subprocess.run(["umount", "-l", str(disk)], check=True)
    shutil.rmtree(state)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match="No space"), open(folder / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 4096)
    assert os.statvfs(folder).f_bavail == 0


@pytest.mark.parametrize(("code", "kept"), [(0, "0\n"), (7, "")])
def test_a_clean_end_is_kept_on_a_full_disk(small: tuple[ProcessScopes, Path], code: int, kept: str) -> None:
    scopes, folder = small
    program = f"until [ -e {folder}/go ]; do sleep 0.1; done; exit {code}"
    scopes.spawn(Launch(VM, "VM test", ("sh", "-c", program), str(folder), USER))
    until((folder / "exit-status-0").exists)
    until(lambda: (folder / "console.log").exists() and scopes.get(VM))
    time.sleep(1)  # the launcher writes no more until the end
    fill(folder)
    (folder / "go").touch()
    until(lambda: (folder / "exit-status").exists() and scopes.get(VM) is None)
    assert (folder / "exit-status").read_text() == kept, "any other end counts as a failure, with its code or without"


def test_a_killed_launcher_leaves_no_end(small: tuple[ProcessScopes, Path]) -> None:
    scopes, folder = small
    scopes.spawn(Launch(VM, "VM test", ("tail", "-f", "/dev/null"), str(folder), USER))
    until(lambda: (scope := scopes.get(VM)) is not None and scope.vmm)
    scopes.kill(VM, signal.SIGKILL)
    until(lambda: scopes.get(VM) is None)
    assert not (folder / "exit-status").exists()
