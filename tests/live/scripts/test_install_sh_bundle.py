"""The bootstrap with a bundle: what it opens, and what it refuses without a change of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.live.scripts.test_install_sh import alone, clone
from tests.unit.installer.release.test_bundle import Draft

__all__ = ["clone"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="checks what root sees")


def bootstrap(clone: Path, bundle: Path, cache: Path, *spelled: str) -> subprocess.CompletedProcess[str]:
    arguments = spelled or ("--release", str(bundle))
    return alone("", clone / "scripts/install/install.sh", *arguments, NQR_CACHE_DIR=str(cache))


def test_bundle_needs_a_python(clone: Path, tmp_path: Path) -> None:
    script = clone / "scripts/install/install.sh"
    script.write_text(script.read_text().replace(" /usr/bin/python3", " /nowhere/python3").replace("/usr/local/bin/python3", ""))
    done = bootstrap(clone, Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache")
    assert done.returncode == 3 and "NQR-DEP-909" in done.stderr, done.stderr
    assert not (tmp_path / "cache").exists(), "nothing was changed"


def test_damaged_bundle_is_refused_by_the_bootstrap(clone: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.zst"
    bundle.write_bytes(b"not a bundle")
    for spelled in ((), (f"--release={bundle}",), ("--mode", "minimal", "--release", str(bundle))):
        done = bootstrap(clone, bundle, tmp_path / "cache", *spelled)
        assert done.returncode == 1 and "NQR-DEP-911" in done.stderr, done.stderr


def test_bundle_of_another_copy_of_the_repository_is_refused(clone: Path, tmp_path: Path) -> None:
    done = bootstrap(clone, Draft().write(tmp_path / "b.tar.zst"), tmp_path / "cache")
    assert done.returncode == 1 and "NQR-DEP-910" in done.stderr, done.stderr
    assert list((tmp_path / "cache/wheelhouse").iterdir()) == [], "its wheels are not those that the locks name"


@pytest.mark.parametrize("path", ["/usr/sbin:/usr/bin:/sbin:/bin", ""], ids=["zstd", "dpkg-deb"])
def test_bundle_opens_with_either_program(path: str, tmp_path: Path) -> None:
    """The second case has no program `zstd`, like a bare Debian."""
    draft = Draft()
    bundle = draft.write(tmp_path / "odd.tar.zst")
    if bundle.stat().st_size % 2 == 0:
        draft = Draft(version="0.5.10")
        bundle = draft.write(tmp_path / "odd.tar.zst")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("stat", "cat", "dpkg-deb", "tar", "rm"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    script = '. "$1/scripts/install/open_bundle.sh"; plain_bundle "$2"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(Path(__file__).parents[3]), str(bundle)],
        capture_output=True, timeout=60, env={"PATH": path or str(programs)}, check=True,
    )  # fmt: skip
    assert done.stdout == draft.tar()
