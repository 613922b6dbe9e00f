"""Another user cannot put a link in the place of an image that root builds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nqrust.contract.images import ImageManifest
from nqrust.host.local import LocalHost
from nqrust.host.port import command
from nqrust.image import folder

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
BLOB = {"file": "rootfs.ext4", "size": 1, "sha256": "0" * 64}
MANIFEST = ImageManifest.model_validate(
    {"name": "tiny", "rootfs": BLOB, "kernel": BLOB, "created_at": "2026-01-01T00:00:00Z"},
)


@ROOT_ONLY
def test_another_user_cannot_put_a_link_in_the_place_of_what_is_built(tmp_path: Path) -> None:
    host, images, outside = LocalHost(), tmp_path / "images", tmp_path / "outside"
    images.mkdir()
    outside.mkdir()
    host.set_mode(str(images), mode=0o1775, owner="root", group="nogroup")
    swap = f"mv .tiny.building away && ln -s {outside} .tiny.building"

    def fill(place: str) -> ImageManifest:
        done = host.run(command("sh", "-c", swap, user="nobody", cwd=str(images), ok=(0, 1)))
        host.write_file(f"{place}/passwd", b"root::0:0")
        assert done.code == 1, "renamed by another user"
        return MANIFEST

    folder.replace(host, f"{images}/tiny", fill)
    assert list(outside.iterdir()) == [] and os.listdir(images) == ["tiny"] and os.listdir(images / "tiny") == ["passwd"]
