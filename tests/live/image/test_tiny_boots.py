"""Image `tiny`, built from the distribution's packages and booted under emulation on a bridge of its own."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from tests.machine_scripts.calling import run_script
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.image import kvm_probe, tiny
from nqrust.image.errors import ImageError
from nqrust.image.guest_agent import build_guest_agent, find_program

pytestmark = pytest.mark.hosts
NEEDS = ("qemu-system-x86_64", "dnsmasq", "unshare", "ip", "dpkg-deb", "apt-get", "mke2fs", "debugfs")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_the_image_is_whole_and_comes_out_the_same_again(image: Path) -> None:
    host = LocalHost()
    manifest = tiny.inspect(host, str(image), deep=True)
    assert manifest is not None and manifest.kernel_elf is not None and manifest.initrd is not None
    assert {p.name: p.stat().st_mode & 0o777 for p in image.iterdir()} == dict.fromkeys(
        ("image.json", "rootfs.ext4", "vmlinuz", "vmlinux", "initrd.cpio"), 0o644
    )
    again = tiny.build(
        host,
        target_dir=str(image.parent / "again"),
        guest_agent=str(image.parent / "guest-agent"),
        cache_dir="/var/tmp/nqrust-test-packages",
    )
    assert (again.rootfs, again.initrd, again.kernel_elf) == (manifest.rootfs, manifest.initrd, manifest.kernel_elf)
    (image.parent / "again" / "vmlinuz").write_bytes(b"half")
    assert tiny.inspect(host, str(image.parent / "again")) is None
    assert sorted(p.name for p in image.parent.iterdir()) == ["again", "guest-agent", "tiny"]


@pytest.mark.parametrize("how", ["powerdown", "ctrl-alt-del", "poweroff"])
def test_a_guest_boots_gets_its_lease_reports_and_stops(image: Path, tmp_path: Path, how: str) -> None:
    seen = run_script("guest_on_a_bridge.py", image, tmp_path, how, namespaces=("net",), seconds=300)
    assert seen["login"]
    (taken,) = seen["reports"]
    assert taken["path"] == "/v1/vms/vm-1/guest-ip" and taken["authorization"] == "Bearer s3cret"
    report = taken["report"]
    assert (report["ip"], report["gateway"], report["gateway_reachable"]) == ("10.0.0.77", "10.0.0.1", True)
    assert report["hostname"] == "web1" and report["memory_total_kib"] > 100_000
    assert seen["health"]["status"] == "ok" and seen["health"]["boot_id"] == report["boot_id"]
    assert "Linux\r\n0\r\n600\r\n" in seen["shell"], seen["shell"]
    assert "a page\r\na page\r\nEND " in seen["wget"], seen["wget"]
    assert seen["seconds_to_stop"] is not None and seen["fsck"] == 0


def test_the_canary_tells_emulation_works_and_gives_up_in_time(image: Path) -> None:
    host = LocalHost()
    assert kvm_probe.boot_canary(host, str(image), accel="tcg", deadline=60).booted
    started = time.monotonic()
    verdict = kvm_probe.boot_canary(host, str(image), accel="tcg", deadline=0.5)
    assert not verdict.booted and "0.5 s" in verdict.reason
    assert time.monotonic() - started < 10, "QEMU was ended at the deadline"
