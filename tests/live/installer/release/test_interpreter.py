"""The base interpreter is the same, whichever environment the installer runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.installer.release.interpreter import interpreter

SOURCE = ROOT / "src"
ASK = "import sys; sys.path.insert(0, sys.argv[1]); from nqrust.installer.release.interpreter import interpreter; print(interpreter().base)"


@pytest.mark.parametrize("name", ["python", "python3"])
def test_base_interpreter_is_the_same_from_two_venvs(tmp_path: Path, name: str) -> None:
    bases = {interpreter().base}
    for made in ("one", "two"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / made], check=True)
        asked = [tmp_path / made / "bin" / name, "-I", "-B", "-c", ASK, SOURCE]
        bases.add(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    assert len(bases) == 1


def test_base_interpreter_is_outside_home_folders() -> None:
    base = interpreter().base
    assert os.path.isabs(base) and os.access(base, os.X_OK)
    if os.path.exists("/usr/bin/python3"):
        assert not base.startswith(("/root/", "/home/"))
