"""With real programs: the initramfs archive: what cpio(1) reads back is what was put in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nqrust.image import cpio


def test_cpio_reads_back_what_was_written(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("the program cpio is not installed")
    data = cpio.archive(
        [cpio.directory("bin"), cpio.file("bin/tool", b"odd", 0o755), cpio.symlink("bin/sh", "tool"), cpio.file("empty", b"")]
    )
    subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/tool").read_bytes() == b"odd"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/sh").readlink() == Path("tool")
    assert (tmp_path / "empty").read_bytes() == b""
