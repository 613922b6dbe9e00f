"""With real programs: the scripts that run in the guest are sound shell."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from nqrust.image import resources, rootfs

SCRIPTS = ["initrd-init", "wget", *sorted(set(rootfs._SCRIPTS.values()))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    # SC1091: what is sourced lies in the guest. SC3045: busybox ash has the option.
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-e", "SC1091,SC3045", "-"],
        input=resources.read(f"tiny/{name}"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
