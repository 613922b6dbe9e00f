"""Trees of a depth that nobody would make without intent."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from nqrust.host.local import LocalHost


def test_a_tree_deeper_than_descriptors_and_paths_allow_is_removed(tmp_path: Path) -> None:
    """A VM's user may have made it. 5,000 levels are above the usual limits of descriptors, recursion and PATH_MAX."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    fd = os.open(tmp_path / "deep", os.O_RDONLY)
    for level in range(5000):
        for name in ("d", "e") if level % 100 == 0 else ("d",):
            os.mkdir(name, dir_fd=fd)
        os.symlink(tmp_path / "outside", "link", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, limits[1]))
    try:
        LocalHost().remove_tree(str(tmp_path / "deep"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(tmp_path) == ["outside"] and (tmp_path / "outside" / "precious").exists()
