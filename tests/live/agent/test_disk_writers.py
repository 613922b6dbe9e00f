"""With real programs: which way an identity comes into a disk, what the helper is told, and what becomes of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.live.agent import mounted_images as images
from tests.unit.agent.test_disk_writers import KEY

from .conftest import VM, Bench, blob


@pytest.mark.parametrize("kind", images.KINDS)
def test_the_agent_makes_and_changes_such_a_disk(bench: Bench, tmp_path: Path, kind: str) -> None:
    if reason := images.why_not(kind):
        pytest.skip(reason)
    helper = images.install(tmp_path / "installed")
    (helper.path.parent / "data-dir").write_text(f"{bench.root}/fc\n")
    rootfs = images.make(kind, bench.root / "images/tiny" / f"rootfs.{kind}", images.plain_tree(tmp_path / "plain"))
    bench.image = bench.image.model_copy(update={"rootfs": blob(rootfs), "rootfs_type": kind})
    object.__setattr__(bench.service.settings, "helper", str(helper.path))
    status = bench.service.put(bench.spec(disk_mib=400, ssh_keys=[KEY]))
    disk = bench.vm_dir() / "disk.ext4"
    assert status.state == "running" and disk.stat().st_size == images.size(kind, disk) == 400 << 20
    found = images.contents(kind, disk, tmp_path / "found")
    assert (found / "etc/hostname").read_text() == "web1\n"
    assert "TOKEN=token-1\n" in (found / "etc/guest-agent.conf").read_text()
    bench.scopes.alive.clear()
    bench.service.put(bench.spec(disk_mib=400, guest_token="token-2"))
    found = images.contents(kind, disk, tmp_path / "again")
    assert "TOKEN=token-2\n" in (found / "etc/guest-agent.conf").read_text()
    assert VM in (found / "etc/guest-agent.conf").read_text() and images.clean(kind, disk)
