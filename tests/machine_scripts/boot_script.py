"""The boot script of the VM network, as an install renders it, for tests that run it in namespaces."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.unit.installer.phases.test_rendered_files import rendered


def boot_script(folder: Path, *needs: str) -> Path:
    """Write it, and return its path. Skips without root and the programs `needs`."""
    lacking = [program for program in needs if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or needs)}")
    path = folder / "nqrust-network"
    path.write_text(rendered("production")["/opt/nqrust-microvm/libexec/nqrust-network"].split("---\n", 1)[1])
    path.chmod(0o755)
    return path
