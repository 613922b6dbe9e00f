"""Root imports an image from the folder of another user, who puts a link to a secret file there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.image.cloud import fetching
from nqrust.image.errors import ImageError
from nqrust.image.progress import silent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")

OTHER = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Root's folder that all may pass, with a disk that only root reads, and a folder of another user."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        made = Path(place)
        made.chmod(0o755)
        disk = made / "disk.ext4"
        disk.write_bytes(b"of a VM")
        disk.chmod(0o600)
        (made / "other").mkdir()
        os.chown(made / "other", OTHER, OTHER)
        yield made


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


@pytest.mark.parametrize("way", ["file", "folder"])
def test_a_file_in_a_folder_that_keeps_others_out_is_not_readable_by_all(folder: Path, way: str) -> None:
    (folder / "root/open").mkdir(parents=True)
    (folder / "root/open/disk").write_bytes(b"of a VM")
    (folder / "root").chmod(0o700)
    link, path = ("link", "other/link") if way == "file" else ("open", "other/open/disk")
    (folder / "other" / link).symlink_to("../root/open/disk" if way == "file" else "../root/open")
    os.chown(folder / "other" / link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(ImageError) as refused:
        fetched(folder, path)
    assert refused.value.code == "NQR-IMG-058" and not (folder / "target").exists()
    (folder / "root").chmod(0o711)
    assert fetched(folder, path) == b"of a VM"


def test_files_that_the_owner_can_read_and_links_of_root_are_taken(folder: Path) -> None:
    for name, mode, owner in (("own", 0o600, OTHER), ("downloaded-as-root", 0o644, 0)):
        file = folder / "other" / name
        file.write_bytes(b"image")
        file.chmod(mode)
        os.chown(file, owner, owner)
        assert fetched(folder, f"other/{name}") == b"image"
    (folder / "other").chmod(0o750)
    assert fetched(folder, "other/downloaded-as-root") == b"image", "the other user may pass its own folder"
    (folder / "latest").symlink_to("disk.ext4")
    assert fetched(folder, "latest") == b"of a VM"
