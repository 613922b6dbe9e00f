"""Status and doctor report images from which this host cannot make a VM."""

from __future__ import annotations

import json

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.operations import images


def host_with(kind: str) -> FakeHost:
    host = FakeHost.debian12()
    blob = {"file": "rootfs", "size": 1, "sha256": "0" * 64}
    manifest = {"name": "mine", "rootfs": blob, "rootfs_type": kind, "kernel": blob, "created_at": "2026-01-01T00:00:00Z"}
    for folder in ("/srv", "/srv/images", "/srv/images/mine", "/srv/images/broken"):
        if not host.exists(folder):
            host.mkdir(folder)
    host.put("/srv/images/mine/image.json", json.dumps(manifest))
    host.put("/srv/images/broken/image.json", "{")
    return host


@pytest.mark.parametrize(
    ("kind", "installed", "told"),
    [
        ("ext4", (), None),
        ("xfs", ("xfs_repair", "xfs_growfs"), None),
        ("xfs", ("xfs_repair",), "image mine here (xfs): xfs_growfs is not installed; install xfsprogs."),
        ("btrfs", (), "image mine here (btrfs): btrfs is not installed; install btrfs-progs."),
        ("xfs", (), "xfs_repair and xfs_growfs are not installed"),
    ],
)
def test_missing_programs_are_told(kind: str, installed: tuple[str, ...], told: str | None) -> None:
    host = host_with(kind)
    for program in installed:
        host.install(program)
    found = images.unusable(host, "/srv/images", has_agent=True)
    assert (told is None and found == ()) or (len(found) == 1 and told is not None and told in found[0])
    assert images.unusable(host, "/srv/images", has_agent=False) == ()
