"""The jail of a Firecracker whose agent was killed at the wrong moment: its VM's user makes no files there for long."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.agent.users import become
from nqrust.agent.vmm.firecracker import jail
from nqrust.agent.vmm.port import Machine
from nqrust.agent.vms import upkeep
from nqrust.contract.names import VM_USERS
from nqrust.host.local import LocalHost

HOST, USER = LocalHost(), VM_USERS[11]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


def makes_files(folder: Path) -> bool:
    make = [*become(USER), "sh", "-c", 'cd "$0" && : >made && mkdir more && : >more/made', str(folder)]
    return subprocess.run(make, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("left", ["snapshot", "guest"])
def test_what_a_killed_agent_left_open_is_sealed(tmp_path: Path, left: str) -> None:
    """A VMM in the hands of its guest delays its answer until the agent ends, by a restart or an upgrade."""
    directory, files = tmp_path / "a1", ("kernel", "disk.ext4")
    (directory / "run").mkdir(parents=True)
    os.chown(directory, 0, USER)
    for name in files:
        (directory / name).touch()
    kernel, disk = (str(directory / name) for name in files)
    jail.make(HOST, Machine("a1", "web1", 1, 128, str(directory), disk, kernel, "", "", USER, "kvm", kernel), "/bin/firecracker")
    top = Path(jail.root(HOST, str(directory)))
    for folder in (top, directory / "run"):  # as the jailer does
        os.chown(folder, USER, USER)
    jail.seal(HOST, str(directory), USER)
    snapshot = jail.place_for_snapshot(HOST, str(directory), USER)
    if left == "snapshot":
        jail.seal_guest(HOST, str(directory), USER)
        snapshot.__enter__()  # and the agent is killed
    place = top / left
    assert makes_files(place)
    service: Any = SimpleNamespace(host=HOST, store=SimpleNamespace(ids=lambda: ["a1"], directory=lambda _: str(directory)))
    assert upkeep.open_jails(service) == ["a1"]
    assert upkeep.seal_jail(service, "a1") is True
    assert upkeep.open_jails(service) == [] and upkeep.seal_jail(service, "a1") is False
    assert not place.exists() if left == "snapshot" else list(place.iterdir()) == []
    assert not any(makes_files(folder) for folder in (top, directory / "run", top / "guest", place))
