"""VMs that boot from XFS and Btrfs, with a name that the helper wrote into their disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.places import ROOT
from tests.unit.agent import mounted_images as images

pytestmark = pytest.mark.hosts


def test_guests_boot_from_the_disks_that_were_written_to(image: Path) -> None:
    reasons = {kind: images.why_not(kind) for kind in images.KINDS}
    kinds = [kind for kind, reason in reasons.items() if not reason]
    if not kinds:
        pytest.skip("; ".join(reasons.values()))
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    script = Path(__file__).with_name("vms_from_mounted_disks.py")
    try:
        done = subprocess.run(
            ["unshare", "--net", "--mount", sys.executable, str(script), str(image), str(work), *kinds],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr[-6000:]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seen = json.loads(done.stdout)
    assert sorted(seen) == sorted(kinds)
    for kind, vm in seen.items():
        assert vm["state"] == "running" and vm["guest"]["hostname"] == f"on-{kind}", vm["console"]
        assert vm["guest"]["disk_total_kib"] > 500 * 1024, "the file system was grown with the disk"
