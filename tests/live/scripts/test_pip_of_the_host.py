"""The bootstrap and scripts/test.sh on a machine whose pip configuration pins versions for other work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.installer.platform.test_venv import lock, make_wheel
from tests.places import ROOT


def pinning(tmp_path: Path) -> dict[str, str]:
    """Variables of a machine that reaches its index, a folder of wheels, and pins both packages to other versions."""
    (tmp_path / "pins.txt").write_text("alpha==9.9\nbeta==9.9\n")
    (tmp_path / "pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links = {tmp_path}/wheels\nconstraint = {tmp_path}/pins.txt\n"
    )
    return {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": f"{tmp_path}/pip.conf", "HOME": str(tmp_path)}


@pytest.mark.skipif(os.geteuid() != 0, reason="checks what root sees")
def test_bootstrap_installs_locked_versions(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts/install", clone / "scripts/install")
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "src/nqrust/cli/__main__.py").write_text("import alpha, beta\ndef main():\n    alpha.main()\n    return 7\n")
    (clone / "requirements").mkdir()
    for name, part in (("alpha", "installer"), ("beta", "build")):
        locked = lock(tmp_path, make_wheel(tmp_path / "wheels", name))
        shutil.copy(locked, clone / f"requirements/{part}.txt")
    environment = {**pinning(tmp_path), "NQR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /var/cache && exec "$0"', clone / "scripts/install/install.sh"],
        capture_output=True, text=True, cwd="/", env=environment, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "alpha runs\n"), done.stderr
    assert not (tmp_path / ".cache").exists(), "nothing is written to the caller's home"


def test_test_command_installs_locked_versions(tmp_path: Path) -> None:
    """Its function `pip_install`, in an environment of its own."""
    locked = lock(tmp_path, make_wheel(tmp_path / "wheels", "alpha"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    text = (ROOT / "scripts/test.sh").read_text()
    function = text[text.index("pip_install() {") :].partition("\n}\n")[0] + "\n}\n"
    script = f"venv={tmp_path}/venv output={tmp_path}\n{function}pip_install --require-hashes -r {locked}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, env=pinning(tmp_path))
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "venv").rglob("site-packages/alpha.py"))
