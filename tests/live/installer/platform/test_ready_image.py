"""An image that a bundle brought, copied into the image folder."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from nqrust.contract.images import Blob, ImageManifest
from nqrust.host.local import LocalHost
from nqrust.installer.platform.image import BuiltImage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="its files belong to root")


def test_ready_image_replaces_a_half_copied_one_and_is_complete(tmp_path: Path) -> None:
    ready, images = tmp_path / "ready", tmp_path / "images"
    ready.mkdir()
    images.mkdir()
    (images / ".tiny.building").mkdir()
    (images / ".tiny.building" / "half").touch()
    (ready / "rootfs.ext4").write_bytes(b"\0" * 1_000_000 + b"x")
    blob = Blob(file="rootfs.ext4", size=1_000_001, sha256="a" * 64)
    manifest = ImageManifest(name="tiny", description="", rootfs=blob, kernel=blob, created_at=datetime.now(timezone.utc))
    (ready / "image.json").write_text(manifest.model_dump_json())
    step = BuiltImage(str(images), "/none", recipe="tiny", ready=str(ready))
    step.apply(LocalHost())
    step.verify(LocalHost())
    assert sorted(os.listdir(images)) == ["tiny"] and sorted(os.listdir(images / "tiny")) == ["image.json", "rootfs.ext4"]
    assert (images / "tiny" / "rootfs.ext4").read_bytes() == (ready / "rootfs.ext4").read_bytes()
    assert (images / "tiny" / "rootfs.ext4").stat().st_blocks * 512 < 100_000, "holes stay holes"
