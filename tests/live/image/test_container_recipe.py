"""With real programs: how image `container-runtime` is made: what apt is asked, what mmdebstrap gets, what lies in the guest."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from nqrust.image import resources


@pytest.mark.parametrize("name", ["rcS", "login"])
def test_shellcheck(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-"], input=resources.read(f"container/{name}"), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
