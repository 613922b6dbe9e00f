"""The folder that NQR_CACHE_DIR names: root runs programs from it, and an uninstall removes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.live.scripts.test_install_sh import alone, clone, needs_root, ready

__all__ = ["clone", "ready"]


@needs_root
@pytest.mark.parametrize("owner, mode, below", [(65534, 0o755, ""), (65534, 0o755, "/cache"), (0, 0o777, ""), (0, 0o777, "/cache"),
                                                (0, 0o1777, ""), (0, 0o1777, "/cache"), (0, 0o775, "/cache")])  # fmt: skip
def test_a_cache_that_others_can_change_is_refused(clone: Path, tmp_path: Path, owner: int, mode: int, below: str) -> None:
    """Root runs the environment in it, and an uninstall removes it later. By then, a reboot can have emptied a folder like /tmp."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    done = alone("", clone / "scripts/install/install.sh", "--dry-run", NQR_CACHE_DIR=f"{folder}{below}")
    assert done.returncode == 2 and done.stderr.startswith("NQR-DEP-905: ") and done.stdout == ""
    assert not list(folder.iterdir())


@needs_root
@pytest.mark.parametrize("name", ["full", 'a"b', "/var/cache/nqrust-microvm/x"])
def test_a_cache_that_uninstall_could_not_take_away_is_refused(clone: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("")
    folder = tmp_path / name
    done = alone("", clone / "scripts/install/install.sh", "--dry-run", NQR_CACHE_DIR=str(folder))
    assert done.returncode == 2 and done.stderr.startswith("NQR-DEP-905: ") and done.stdout == ""
    assert [path.name for path in tmp_path.rglob("*") if clone not in path.parents] == ["full", "theirs"]


@needs_root
def test_uninstall_uses_the_environment_at_another_place(clone: Path, ready: Path, tmp_path: Path) -> None:
    home = tmp_path / "home/nqrust-microvm"
    home.mkdir(parents=True)
    (home / "elsewhere").write_text(f"made {tmp_path}/gone\nmade {ready}\n")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "bootstrap.json").write_text((ready / "bootstrap.json").read_text())
    os.chown(theirs, 65534, 65534)
    (tmp_path / "link").symlink_to(ready)
    with (home / "elsewhere").open("a") as file:
        file.write(f"made {tmp_path}/link\nmade {theirs}\n")
    done = alone(f"mount --bind {home.parent} /var/cache", clone / "scripts/install/uninstall.sh", "--non-interactive")
    assert done.returncode == 7 and json.loads(done.stdout)[0] == ["nqr", "uninstall", "--non-interactive"], done.stderr


@needs_root
def test_verify_clean_works_in_a_folder_of_its_own_below_tmp(clone: Path, ready: Path, tmp_path: Path) -> None:
    """It is gone at the end, so nobody puts another in its place."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    script = (clone / "scripts/install/verify-clean.sh").read_text().replace("$(mktemp -d)", f"{tmp_path}/tmp/own")
    (clone / "scripts/install/verify-clean.sh").write_text(script)
    ready.rename(tmp_path / "tmp/own")
    done = alone("", clone / "scripts/install/verify-clean.sh", "--output", "json")
    assert done.returncode == 7 and json.loads(done.stdout)[0] == ["nqr", "verify-clean", "--output", "json"], done.stderr
    assert not list((tmp_path / "tmp").iterdir())
