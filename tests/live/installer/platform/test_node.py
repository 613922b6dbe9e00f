"""The archive of Node.js, with programs that run."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.platform.node import Node, NodeProgram


def archive(path: Path, says: str, name: str = "node-v20.0.0-linux-x64/bin/node") -> str:
    program = path.parent / "program"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(program, name)
    return str(path)


def test_its_program_is_installed_once(tmp_path: Path) -> None:
    here, cache = LocalHost(), str(tmp_path / "cache")
    node = Node(str(tmp_path / "node"), archive=archive(tmp_path / "node.tgz", "v20.0.0"))
    step = NodeProgram(node, cache=cache)
    assert isinstance(step.inspect(here), Needed)
    step.apply(here)
    step.verify(here)
    assert isinstance(step.inspect(here), Satisfied) and (tmp_path / "node").stat().st_mode & 0o777 == 0o755
    assert isinstance(NodeProgram(Node(node.program), cache=cache).inspect(here), Satisfied)
    archive(tmp_path / "node.tgz", "v21.0.0")
    assert isinstance(step.inspect(here), Needed), "another archive"
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [], "nothing is left of the archive"


@pytest.mark.parametrize(("says", "name"), [("v18.0.0", "n/bin/node"), ("v20.0.0", "n/node"), ("nothing", "n/bin/node")])
def test_an_archive_without_a_new_enough_node_is_refused(says: str, name: str, tmp_path: Path) -> None:
    step = NodeProgram(
        Node(str(tmp_path / "node"), archive=archive(tmp_path / "node.tgz", says, name)), cache=str(tmp_path / "cache")
    )
    with pytest.raises(StepFailed) as refused:
        step.apply(LocalHost())
    assert refused.value.code == "NQR-REL-072" and not (tmp_path / "node").exists()
