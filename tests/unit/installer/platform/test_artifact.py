"""Files of a release, and the link to the current release."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Origin, Satisfied
from nqrust.installer.platform.artifact import Artifact
from nqrust.installer.platform.release_link import CurrentLink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root can only be made by root")


def release(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "agent").write_bytes(content)
    listed = {"name": "agent", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "release.json").write_text(json.dumps({"artifacts": [listed]}))
    return folder


@needs_root
def test_artifact_is_installed_with_its_mode(tmp_path: Path) -> None:
    host = LocalHost()
    step = Artifact(str(release(tmp_path / "r", b"one")), "agent", f"{tmp_path}/agent")
    assert isinstance(step.inspect(host), Needed)
    assert step.prepare(host).undo[0].args["ours"] == hashlib.sha256(b"one").hexdigest()
    step.apply(host)
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    (tmp_path / "agent").chmod(0o700)
    assert isinstance(step.inspect(host), Needed)


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    folder = release(tmp_path / "r", b"one")
    (folder / "agent").write_bytes(b"owt")
    with pytest.raises(StepFailed) as failure:
        Artifact(str(folder), "agent", f"{tmp_path}/agent").apply(LocalHost())
    assert failure.value.code == "NQR-REL-013" and not (tmp_path / "agent").exists()


def test_an_artifact_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    for folder in (release(tmp_path / "r", b"one"), tmp_path / "none"):
        with pytest.raises(StepFailed) as failure:
            Artifact(str(folder), "manager", f"{tmp_path}/x").apply(LocalHost())
        assert failure.value.code == "NQR-REL-012"


def test_the_link_flips_and_remembers_where_it_pointed(tmp_path: Path) -> None:
    host, path = LocalHost(), str(tmp_path / "current")
    first, second = CurrentLink(path, "releases/1"), CurrentLink(path, "releases/2")
    assert isinstance(first.inspect(host), Needed) and first.prepare(host).origin is Origin.created
    first.apply(host)
    assert isinstance(first.inspect(host), Satisfied)
    (undo,) = second.prepare(host).undo
    assert undo.args == {"path": path, "ours": "releases/2", "prior": "releases/1"}
    second.apply(host)
    second.verify(host)
    assert os.readlink(path) == "releases/2"


@pytest.mark.parametrize("step", [lambda p: CurrentLink(p, "x"), lambda p: Artifact("/none", "agent", p)])
def test_a_folder_in_the_way_is_left_alone(tmp_path: Path, step: object) -> None:
    (tmp_path / "there").mkdir()
    assert callable(step)
    found = step(str(tmp_path / "there")).inspect(LocalHost())
    assert isinstance(found, Conflict) and found.cure
