"""A program of a release is replaced while it runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.step import Origin
from nqrust.installer.platform.artifact import Artifact

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root can only be made by root")


def release(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "agent").write_bytes(content)
    listed = {"name": "agent", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "release.json").write_text(json.dumps({"artifacts": [listed]}))
    return folder


@needs_root
def test_a_program_that_runs_can_be_replaced(tmp_path: Path) -> None:
    host, target = LocalHost(), tmp_path / "agent"
    Artifact(str(release(tmp_path / "r", Path("/bin/sleep").read_bytes())), "agent", str(target)).apply(host)
    running = subprocess.Popen([target, "30"])
    try:
        step = Artifact(str(release(tmp_path / "r2", b"two")), "agent", str(target))
        assert step.prepare(host).origin is Origin.modified
        step.apply(host)
        assert target.read_bytes() == b"two" and running.poll() is None
    finally:
        running.kill()
        running.wait()
