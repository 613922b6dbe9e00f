"""What a build writes into a bundle, and what it refuses first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.installer.release.test_bundle import KEY

from nqrust.contract.images import Blob, ImageManifest
from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release.bundle import archive, contents
from nqrust.installer.release.bundle import build as bundle_build
from nqrust.installer.release.bundle.build import Ingredients, read_private_key, write
from nqrust.installer.verbs.packages.apt.collecting import Collector


@pytest.mark.parametrize(
    "content", ["", "not a key", KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)]
)
def test_key_that_cannot_sign_is_refused(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name in (path, tmp_path / "none.pem"):
        with pytest.raises(ReleaseError) as refused:
            read_private_key(LocalHost(), str(name))
        assert refused.value.code == "NQR-REL-068"


def test_images_are_built_into_the_bundle_with_a_fixed_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def build(host: Host, **given: Any) -> ImageManifest:
        asked.append(given)
        host.mkdir(given["target_dir"])
        host.write_file(f"{given['target_dir']}/rootfs.ext4", b"disk")
        blob = Blob(file="rootfs.ext4", size=4, sha256="a" * 64)
        return ImageManifest(name="tiny", description="", rootfs=blob, kernel=blob, created_at=datetime.now(timezone.utc))

    monkeypatch.setitem(bundle_build.RECIPES, "tiny", build)
    made = []
    for name in ("one", "two"):
        work = str(tmp_path / name)
        os.mkdir(work)
        bundle_build._images(LocalHost(), ("tiny",), work, lambda text, fraction: None)
        assert sorted(bundle_build._files(work)) == ["images/tiny/image.json", "images/tiny/rootfs.ext4"]
        made.append((tmp_path / name / "images/tiny/image.json").read_bytes())
    assert made[0] == made[1]
    assert [one["guest_agent"] for one in asked] == [f"{tmp_path}/{name}/release/guest-agent" for name in ("one", "two")]


def test_bundle_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    parts = Ingredients("/src", "debian-12", (), Collector())
    with pytest.raises(ReleaseError) as refused:
        write(LocalHost(), parts, str(tmp_path / "none/b.tar.zst"), "/usr/bin/python3", lambda text, fraction: None)
    assert refused.value.code == "NQR-REL-067"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for n in (1, 2):
        source, output = tmp_path / f"file{n}", tmp_path / f"bundle{n}"
        source.write_bytes(os.urandom(0) + b"x" * 3_000_001)
        os.utime(source, (n * 1000, n * 1000))
        source.chmod(0o600 + n)
        with output.open("wb") as stream, source.open("rb") as content:
            writer = archive.Writer(stream)
            writer.add("packages/x", content, 3_000_001)
            writer.close()
        made.append(output.read_bytes())
    assert made[0] == made[1]


def names() -> Iterator[str]:
    yield from ("release/a", "wheels/a", "release/release.json", "packages/a", "kernel/b")


def test_descriptor_and_wheels_come_first() -> None:
    expected = ["release/release.json", "release/a", "wheels/a", "kernel/b", "packages/a"]
    assert sorted(names(), key=contents.order) == expected
