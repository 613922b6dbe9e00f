"""The bootstrap and the folder for temporary files that its environment names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.live.scripts.test_install_sh import alone, clone, needs_root, over, ready

__all__ = ["clone", "ready"]


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "used"),
    [(0o700, 0, True), (0o1777, 0, True), (0o777, 0, False), (0o755, 65534, False), (None, 0, False)],
    ids=["root's", "sticky", "everybody's", "a user's", "missing"],
)
def test_temporary_files_of_root_are_where_nobody_can_replace_them(
    clone: Path, ready: Path, tmp_path: Path, mode: int | None, owner: int, used: bool
) -> None:
    """su(1) keeps TMPDIR. apt-get extracts scripts of packages there and runs them as root."""
    folder = tmp_path / "temporary"
    if mode is not None:
        folder.mkdir()
        os.chown(folder, owner, owner)
        folder.chmod(mode)
    (ready / "borrowed").write_text("python3-venv\n")
    apt = f'echo "${{TMPDIR:-none}}" >>{tmp_path}/calls'
    mounts = over({"apt-get": apt, "dpkg-query": "echo 'install ok installed'"}, tmp_path)
    done = alone(mounts, clone / "scripts/install/install.sh", "--dry-run", NQR_CACHE_DIR=str(ready), TMPDIR=str(folder))
    assert done.returncode == 7, done.stderr
    assert set((tmp_path / "calls").read_text().split()) == {str(folder) if used else "none"}
