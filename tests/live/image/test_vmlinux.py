"""With real programs: an ELF kernel comes out of every kind of bzImage that distributions ship, or the failure says what to do."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.test_vmlinux import KERNEL, bzimage

from nqrust.contract.names import IMAGE_USERS
from nqrust.host.errors import CommandFailed
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed
from nqrust.image.errors import ImageError
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up anything")
def test_the_program_that_unpacks_a_kernel_has_no_privileges(tmp_path: Path) -> None:
    source, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    source.write_bytes(bzimage(by_program("zstd", "-q", "-c")))

    class Telling(LocalHost):
        told = ""

        def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
            if cmd.argv[-1] == "true":
                return super().run(cmd)
            assert cmd.argv[-4:] == ("zstd", "-d", "-q", "-c")
            done = super().run(replace(cmd, argv=(*cmd.argv[:-4], "cat", "/proc/self/status")))
            self.told = target.read_text()
            return done

    host = Telling()
    with pytest.raises(ImageError):
        write_vmlinux(host, str(source), str(target))
    status = dict(line.split(":\t", 1) for line in host.told.splitlines())
    assert {int(user) in IMAGE_USERS for user in status["Uid"].split()} == {True}
    assert status["CapPrm"] == status["CapBnd"] == "0" * 16 and status["NoNewPrivs"] == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a namespace of its own")
def test_nothing_of_the_program_that_unpacks_a_kernel_is_left(tmp_path: Path) -> None:
    """It had the kernel open, and could change it after the check."""
    source, target, program = tmp_path / "vmlinuz", tmp_path / "vmlinux", tmp_path / "bin/zstd"
    source.write_bytes(bzimage(by_program("zstd", "-q", "-c")))
    program.parent.mkdir()
    kernel = tmp_path / "bin/kernel"
    kernel.write_bytes(KERNEL + b"its own")
    program.write_text(f"#!/bin/sh\nsetsid sh -c 'sleep 1; echo changed' 2>/dev/null &\ncat {kernel}\n")
    program.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.is_relative_to(os.environ.get("TMPDIR", "/tmp")):
            folder.chmod(0o755)

    class TakenOver(LocalHost):
        def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
            return super().run(replace(cmd, argv=tuple(str(program) if word == "zstd" else word for word in cmd.argv)))

    write_vmlinux(TakenOver(), str(source), str(target))
    time.sleep(1.5)
    assert target.read_bytes() == KERNEL + b"its own"


def test_a_container_without_namespaces_unpacks_kernels_too(tmp_path: Path) -> None:
    source, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    source.write_bytes(bzimage(by_program("zstd", "-q", "-c")))

    class Refusing(LocalHost):
        def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
            if cmd.argv[0] == "unshare":
                raise CommandFailed(cmd.argv, 1, "unshare failed: Operation not permitted")
            return super().run(cmd)

    write_vmlinux(Refusing(), str(source), str(target))
    assert target.read_bytes().startswith(KERNEL)
