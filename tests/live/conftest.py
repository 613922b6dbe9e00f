"""For all live tests: the image `tiny`, built once, and a folder that only root can change."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.image import tiny
from nqrust.image.errors import ImageError
from nqrust.image.guest_agent import build_guest_agent, find_program

NEEDS = ("qemu-system-x86_64", "dnsmasq", "unshare", "ip", "dpkg-deb", "apt-get", "mke2fs", "debugfs")


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an image `tiny`. Beside it is the guest agent that went into it."""
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or NEEDS)}")
    host = LocalHost()
    if not find_program(host, "rustc"):
        pytest.skip("there is no Rust compiler")
    folder = tmp_path_factory.mktemp("tiny")
    build_guest_agent(host, str(ROOT / "guest-agent"), str(folder / "guest-agent"))
    try:
        tiny.build(
            host,
            target_dir=str(folder / "tiny"),
            guest_agent=str(folder / "guest-agent"),
            cache_dir="/var/tmp/nqrust-test-packages",
        )
    except ImageError as error:
        if error.code == "NQR-IMG-002":
            pytest.skip(f"packages are out of reach: {error.what}")
        raise
    return folder / "tiny"


@pytest.fixture
def roots_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that no other user can replace at any time: pytest's own are below /tmp. Without root, pytest's own."""
    if os.geteuid() != 0:
        yield tmp_path_factory.mktemp("roots")
        return
    with tempfile.TemporaryDirectory(prefix="nqr-test-", dir="/var/lib") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
