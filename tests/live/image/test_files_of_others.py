"""Root imports an image from the folder of another user, who puts a link to a secret file there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.image.cloud import fetching
from nqrust.image.errors import ImageError
from nqrust.image.progress import silent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")

OTHER = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Root's folder, with a disk that only root reads, and a folder of another user."""
    disk = tmp_path / "disk.ext4"
    disk.write_bytes(b"of a VM")
    disk.chmod(0o600)
    (tmp_path / "other").mkdir()
    os.chown(tmp_path / "other", OTHER, OTHER)
    return tmp_path


def fetched(folder: Path, path: str, digest: str | None = None) -> bytes:
    fetching.from_file(LocalHost(), str(folder / path), digest, silent)(str(folder / "target"))
    return (folder / "target").read_bytes()


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_to_a_file_that_its_owner_cannot_read_is_refused(folder: Path, swapped: str) -> None:
    if swapped == "file":
        (folder / "other/disk.ext4").symlink_to("../disk.ext4")
        os.chown(folder / "other/disk.ext4", OTHER, OTHER, follow_symlinks=False)
        path = "other/disk.ext4"
    else:
        (folder / "other/images").symlink_to(folder)
        path = "other/images/disk.ext4"
    with pytest.raises(ImageError) as refused:
        fetched(folder, path)
    assert refused.value.code == "NQR-IMG-058" and "--checksum" in refused.value.cure and not (folder / "target").exists()
    assert fetched(folder, path, hashlib.sha256(b"of a VM").hexdigest()) == b"of a VM", "root names what it means"


def test_files_that_the_owner_can_read_and_links_of_root_are_taken(folder: Path) -> None:
    for name, mode, owner in (("own", 0o600, OTHER), ("downloaded-as-root", 0o644, 0)):
        file = folder / "other" / name
        file.write_bytes(b"image")
        file.chmod(mode)
        os.chown(file, owner, owner)
        assert fetched(folder, f"other/{name}") == b"image"
    (folder / "latest").symlink_to("disk.ext4")
    assert fetched(folder, "latest") == b"of a VM"
