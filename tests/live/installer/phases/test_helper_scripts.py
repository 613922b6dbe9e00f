"""The scripts folder: thin helpers that run nqr, clean sh, and an uninstall that works without nqr too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.installer.platform.test_registered_images import steps

from nqrust.contract import paths
from nqrust.contract.paths import Layout
from nqrust.installer.resources.scripts import helper_scripts
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink

FOLDER = "/opt/nqrust-microvm/scripts"
SCRIPTS = helper_scripts(Layout())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_helper_scripts_pass_shellcheck(name: str) -> None:
    checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=SCRIPTS[name], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("mode", ["production", "manager", "agent"])
def test_every_mode_installs_the_helper_scripts(mode: str) -> None:
    found = [step for _, step in steps(mode)]
    files = {step.path: step for step in found if isinstance(step, File) and step.path.startswith(FOLDER)}
    assert set(files) == {f"{FOLDER}/{name}" for name in ("uninstall.sh", "verify.sh", "support-bundle.sh")}
    assert {step.mode for step in files.values()} == {0o755}
    assert Symlink(f"{FOLDER}/undo.sh", paths.UNDO_SCRIPT) in found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An installation below a folder, whose nqr and undo.sh say how they were called."""
    (tmp_path / "installer/venv/bin").mkdir(parents=True)
    nqr = tmp_path / "installer/venv/bin/nqr"
    nqr.write_text('#!/bin/sh\n[ "$1" = version ] || echo "nqr $* in $PWD"\n')
    nqr.chmod(0o755)
    (tmp_path / "undo.sh").write_text('#!/bin/sh\necho "undo.sh $* in $PWD"\n')
    for name, text in helper_scripts(Layout(install_dir=str(tmp_path))).items():
        (tmp_path / name).write_text(text.replace(paths.UNDO_SCRIPT, f"{tmp_path}/undo.sh"))
    return tmp_path


def run(place: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(place / name), *options], capture_output=True, text=True, cwd=place, timeout=30, check=False)


@pytest.mark.parametrize("verb", ["uninstall", "verify", "support-bundle"])
def test_helper_scripts_pass_every_option_to_nqr(place: Path, verb: str) -> None:
    assert run(place, f"{verb}.sh", "--a", "b c").stdout == f"nqr {verb} --a b c in {place}\n"


def test_helper_scripts_without_nqr_run_the_undo_script_or_explain(place: Path) -> None:
    nqr = place / "installer/venv/bin/nqr"
    nqr.write_text("#!/no/such/python\n")  # the environment's interpreter is gone
    assert run(place, "uninstall.sh", "--purge-data").stdout == "undo.sh --purge-data in /\n"
    nqr.unlink()
    assert run(place, "uninstall.sh").stdout == "undo.sh  in /\n"
    for name in ("verify.sh", "support-bundle.sh"):
        done = run(place, name)
        assert done.returncode == 1 and "install.sh" in done.stderr
    (place / "undo.sh").unlink()
    done = run(place, "uninstall.sh")
    assert done.returncode == 1 and "scripts/install/uninstall.sh" in done.stderr
