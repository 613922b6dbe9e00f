"""With real programs: an ELF kernel comes out of every kind of bzImage that distributions ship, or the failure says what to do."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.image.test_vmlinux import KERNEL, bzimage

from nqrust.host.local import LocalHost
from nqrust.image.vmlinux import write_vmlinux


def by_program(*argv: str) -> bytes:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"the program {argv[0]} is not installed")
    return subprocess.run(argv, input=KERNEL, capture_output=True, check=True).stdout


PACKERS = {
    "gzip": lambda: gzip.compress(KERNEL),
    "xz": lambda: lzma.compress(KERNEL),
    "lzma": lambda: lzma.compress(KERNEL, format=lzma.FORMAT_ALONE),
    "lz4": lambda: by_program("lz4", "-l", "-c"),
    "zstd": lambda: by_program("zstd", "-q", "-c"),
    "none": lambda: KERNEL,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_vmlinux_is_extracted_from_the_kernel_image(kind: str, tmp_path: Path) -> None:
    source, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    source.write_bytes(bzimage(PACKERS[kind]()))
    write_vmlinux(LocalHost(), str(source), str(target))
    assert target.read_bytes().startswith(KERNEL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vmlinux", "vmlinuz"]
