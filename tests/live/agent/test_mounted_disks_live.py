"""VMs that boot from XFS and Btrfs, with a name that the helper wrote into their disks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from tests.live.agent import mounted_images as images
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts


def test_guests_boot_from_the_disks_that_were_written_to(image: Path) -> None:
    reasons = {kind: images.why_not(kind) for kind in images.KINDS}
    kinds = [kind for kind, reason in reasons.items() if not reason]
    if not kinds:
        pytest.skip("; ".join(reasons.values()))
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        seen = run_script("vms_from_mounted_disks.py", image, work, *kinds, namespaces=("net", "mount"), seconds=600)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert sorted(seen) == sorted(kinds)
    for kind, vm in seen.items():
        assert vm["state"] == "running" and vm["guest"]["hostname"] == f"on-{kind}", vm["console"]
        assert vm["guest"]["disk_total_kib"] > 500 * 1024, "the file system was grown with the disk"
