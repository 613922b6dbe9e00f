"""Loop devices: attached by the new ioctl and by the old pair, with nodes of /dev or of our own, and gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.live.agent import mounted_images as images

from nqrust.agent.disks.diskwrite import loop
from nqrust.agent.errors import AgentError

REASONS = {kind: images.why_not(kind) for kind in images.KINDS}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.mark.parametrize("configure", [0x4C0A, 0x4CFF], ids=["LOOP_CONFIGURE", "LOOP_SET_FD"])
def test_a_file_is_attached_as_long_as_it_is_needed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configure: int
) -> None:
    monkeypatch.setattr(loop, "_CONFIGURE", configure)
    disk = os.open(file, os.O_RDWR)
    try:
        with loop.attached(disk, str(tmp_path)) as device:
            assert images.attached(file)
            found = os.fstat(disk)
            assert loop.backing_file(os.path.basename(device)) == (found.st_dev, found.st_ino)
            with open(device, "r+b") as opened:
                opened.write(b"written through it")
                opened.flush()
                os.fsync(opened.fileno())
        assert not images.attached(file)
        assert file.read_bytes().startswith(b"written through it")
        with pytest.raises(RuntimeError), loop.attached(disk, str(tmp_path)):
            raise RuntimeError("in the middle of the work")
        assert not images.attached(file)
    finally:
        os.close(disk)
    assert sorted(os.listdir(tmp_path)) == ["disk"], "the nodes of /dev were used"


def test_a_loop_device_that_is_attached_to_nothing(file: Path) -> None:
    assert loop.backing_file("loop-none") is None


def test_no_loop_devices_is_told(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "stat", refuse)  # /dev has none, and a node may not be made
    monkeypatch.setattr(os, "mknod", refuse)
    disk = os.open(file, os.O_RDWR)
    try:
        with pytest.raises(AgentError) as failed, loop.attached(disk, str(tmp_path)):
            pass
    finally:
        monkeypatch.undo()
        os.close(disk)
    assert failed.value.code == "NQR-IMG-107"


@pytest.mark.parametrize("kind", images.KINDS)
def test_a_container_whose_dev_has_no_loop_devices(tmp_path: Path, kind: str) -> None:
    if REASONS[kind]:
        pytest.skip(REASONS[kind])
    helper = images.install(tmp_path)
    disk = helper.disk(images.make(kind, tmp_path / "image", images.plain_tree(tmp_path / "tree")))
    asked = {"vm_id": "a1", "type": kind, "files": [{"path": "/etc/hostname", "content": "web1\n", "mode": 0o644}]}
    bare = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec sh "$0" disk-write'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", bare, str(helper.path)], input=json.dumps(asked), capture_output=True, text=True
    )
    assert done.returncode == 0 and json.loads(done.stdout)["code"] == "", done.stdout + done.stderr
    assert (images.contents(kind, disk, tmp_path / "found") / "etc/hostname").read_text() == "web1\n"
    assert not images.attached(disk)
