"""Image `container-runtime`, built from the distribution's packages, booted under emulation, running containers."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from tests.machine_scripts.calling import run_script
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.image import container, tiny
from nqrust.image.errors import ImageError
from nqrust.image.guest_agent import build_guest_agent, find_program

pytestmark = [pytest.mark.hosts, pytest.mark.matrix]
NEEDS = ("qemu-system-x86_64", "mmdebstrap", "dpkg-deb", "apt-get", "mke2fs", "e2fsck")
CACHE = "/var/tmp/nqrust-test-packages"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or NEEDS)}")
    host = LocalHost()
    if not find_program(host, "rustc"):
        pytest.skip("there is no Rust compiler")
    folder = tmp_path_factory.mktemp("container")
    build_guest_agent(host, str(ROOT / "guest-agent"), str(folder / "guest-agent"))
    try:
        container.build(host, target_dir=str(folder / container.NAME), guest_agent=str(folder / "guest-agent"), cache_dir=CACHE)
    except ImageError as error:
        if error.code == "NQR-IMG-002":
            pytest.skip(f"packages are out of reach: {error.what}")
        raise
    return folder / container.NAME


def test_containers_run_in_the_guest(image: Path, tmp_path: Path) -> None:
    manifest = tiny.inspect(LocalHost(), str(image), deep=True)
    assert manifest is not None and manifest.name == container.NAME
    assert sorted(p.name for p in image.iterdir()) == ["image.json", "initrd.cpio", "rootfs.ext4", "vmlinux", "vmlinuz"]
    assert sorted(p.name for p in image.parent.iterdir()) == [container.NAME, "guest-agent"], "nothing half done is left"
    seen = run_script("container_guest.py", image, tmp_path, seconds=900)
    assert seen["login"] and seen["prompt"], seen
    assert "cgroup2fs" in seen["facts"] and {"overlay", "veth", "bridge", "nf_tables"} <= set(seen["facts"].split())
    # The container's own process is the first of its PID namespace and sees its own root of five folders at most.
    assert re.search(r"NQR-IN-42-crun-1-\d+\r", seen["crun"]) and "END=0" in seen["crun"], seen["crun"]
    assert re.search(r"NQR-IN-42-[0-9a-f]{12}-1-\d+\r", seen["podman"]) and "END=0" in seen["podman"], seen["podman"]
    assert "WARN" not in seen["podman"], seen["podman"]
    assert "NQR-NET-42-1" in seen["bridged"], seen["bridged"]
    assert seen["stopped"] and seen["fsck"] == 0
