"""What the VM's user may write to in the jail of a Firecracker, before its guest runs."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent import test_firecracker
from tests.unit.agent.test_firecracker import FakeFirecracker

from nqrust.agent.vmm.firecracker.driver import Firecracker
from nqrust.agent.vmm.port import Machine
from nqrust.host.local import LocalHost

fake, machine = test_firecracker.fake, test_firecracker.machine


@pytest.mark.parametrize("restored", [False, True])
def test_a_hostile_snapshot_makes_no_files_while_it_is_loaded(fake: FakeFirecracker, machine: Machine, restored: bool) -> None:
    """Its VMM runs what a guest put there. The folder of the guest's socket is its own until the socket is there."""
    place = fake.inside("/guest")
    for folder in (fake.root, Path(machine.directory, "run"), place):
        os.chown(folder, machine.user, machine.user)
    owners: dict[str, list[int]] = {}
    really = fake.handle

    def handle(method: str, path: str, data: bytes) -> tuple[int, Any]:
        owners.setdefault(path, [folder.stat().st_uid for folder in (fake.root, Path(machine.directory, "run"), place)])
        if path in ("/snapshot/load", "/vsock"):
            descriptor = os.open(place, os.O_PATH)  # the path itself is too long for bind(2)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{descriptor}/vsock.sock")
            os.close(descriptor)
            (place / "deep" / "er").mkdir(parents=True)
            (place / "deep" / "file").touch()
            (place / "link").symlink_to("/etc")
            os.mkfifo(place / "fifo")
        return really(method, path, data)

    fake.handle = handle  # type: ignore[method-assign]
    machine = replace(machine, guest_exec=True)
    for name in ("vmstate", "memory"):
        fake.inside(f"/saved/{name}").touch()
    driver = Firecracker(LocalHost())
    driver.load(machine, "") if restored else driver.configure(machine)
    assert owners["/snapshot/load" if restored else "/vsock"] == [0, 0, machine.user]
    assert [found.name for found in place.iterdir()] == ["vsock.sock"]
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (0, 0o710)
