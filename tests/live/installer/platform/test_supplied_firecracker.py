"""A supplied Firecracker is installed and asked for its version."""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.platform.firecracker import FIRECRACKER, FirecrackerBinary, Supplied


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


def test_a_supplied_archive_is_installed_and_stays(tmp_path: Path, archive: Supplied) -> None:
    host = LocalHost()
    step = FirecrackerBinary(f"{tmp_path}/firecracker", source=archive, cache=f"{tmp_path}/cache")
    assert isinstance(step.inspect(host), Needed)
    assert {u.args["path"] for u in step.prepare(host).undo} == {f"{tmp_path}/firecracker", f"{tmp_path}/firecracker.source"}
    step.apply(host)
    step.verify(host)
    assert (tmp_path / "firecracker").stat().st_mode & 0o777 == 0o755
    assert isinstance(step.inspect(host), Satisfied)
    without = dataclasses.replace(step, source=None)
    assert isinstance(without.inspect(host), Satisfied), "the variables are set for one run only"
    other = dataclasses.replace(step, source=Supplied(f"{tmp_path}/other.tgz", hashlib.sha256(b"other").hexdigest()))
    (tmp_path / "other.tgz").write_bytes(b"other")
    assert isinstance(other.inspect(host), Needed), "another archive"
    (tmp_path / "firecracker").write_text("something else")
    assert isinstance(step.inspect(host), Needed)
    assert isinstance(without.inspect(host), Conflict), "there is nothing to repair it from"
