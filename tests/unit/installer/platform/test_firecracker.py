"""Firecracker: pinned or vouched for, never otherwise."""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict
from nqrust.installer.platform.firecracker import FIRECRACKER, FirecrackerBinary, Supplied, supplied


@pytest.fixture
def archive(tmp_path: Path) -> Supplied:
    inside = tmp_path / "inside" / FIRECRACKER.member
    inside.parent.mkdir(parents=True)
    inside.write_text("#!/bin/sh\necho Firecracker v1.13.1\n")
    path = tmp_path / "firecracker.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(inside, FIRECRACKER.member)
        tar.add(inside, "release-v1.13.1-x86_64/jailer-v1.13.1-x86_64")
    return Supplied(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_without_a_digest_nothing_is_installed(tmp_path: Path) -> None:
    step = FirecrackerBinary(f"{tmp_path}/firecracker", dataclasses.replace(FIRECRACKER, sha256=None), cache=str(tmp_path))
    assert not step.available
    found = step.inspect(LocalHost())
    assert isinstance(found, Conflict) and found.code == "NQR-REL-040", "known before anything is changed"
    with pytest.raises(StepFailed) as failure:
        step.apply(LocalHost())
    assert failure.value.code == "NQR-REL-040"
    assert "NQR_FIRECRACKER_ARCHIVE" in failure.value.cure and "--vmm qemu" in failure.value.cure
    assert not (tmp_path / "firecracker").exists()


def test_an_archive_with_another_digest_is_refused(tmp_path: Path, archive: Supplied) -> None:
    wrong = dataclasses.replace(archive, sha256="0" * 64)
    with pytest.raises(StepFailed) as failure:
        FirecrackerBinary(f"{tmp_path}/firecracker", source=wrong, cache=f"{tmp_path}/cache").apply(LocalHost())
    assert failure.value.code == "NQR-REL-043"
    for source, says in (
        (wrong, "The sha256 of"),
        (dataclasses.replace(archive, archive="/missing.tgz"), "no file /missing.tgz"),
        (dataclasses.replace(archive, archive=str(tmp_path)), "no file"),
    ):
        found = FirecrackerBinary(f"{tmp_path}/firecracker", source=source).inspect(LocalHost())
        assert isinstance(found, Conflict) and found.code == "NQR-REL-043" and says in found.why
    assert not (tmp_path / "firecracker").exists()


def test_what_the_environment_supplies() -> None:
    assert supplied({}) is None
    given = {"NQR_FIRECRACKER_ARCHIVE": "/tmp/f.tgz", "NQR_FIRECRACKER_SHA256": "AB" * 32}
    assert supplied(given) == Supplied("/tmp/f.tgz", "ab" * 32)
    for name in given:
        with pytest.raises(StepFailed) as failure:
            supplied({name: given[name]})
        assert failure.value.code == "NQR-REL-041"
