"""Image `tiny`, built from the distribution's packages and booted under emulation on a bridge of its own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.machine_scripts.calling import run_script

from nqrust.host.local import LocalHost
from nqrust.image import kvm_probe, tiny

pytestmark = pytest.mark.hosts


def test_image_build_is_complete_and_reproducible(tiny_image: Path) -> None:
    host = LocalHost()
    manifest = tiny.inspect(host, str(tiny_image), deep=True)
    assert manifest is not None and manifest.kernel_elf is not None and manifest.initrd is not None
    assert {p.name: p.stat().st_mode & 0o777 for p in tiny_image.iterdir()} == dict.fromkeys(
        ("image.json", "rootfs.ext4", "vmlinuz", "vmlinux", "initrd.cpio"), 0o644
    )
    again = tiny.build(
        host,
        target_dir=str(tiny_image.parent / "again"),
        guest_agent=str(tiny_image.parent / "guest-agent"),
        cache_dir="/var/tmp/nqrust-test-packages",
    )
    assert (again.rootfs, again.initrd, again.kernel_elf) == (manifest.rootfs, manifest.initrd, manifest.kernel_elf)
    (tiny_image.parent / "again" / "vmlinuz").write_bytes(b"half")
    assert tiny.inspect(host, str(tiny_image.parent / "again")) is None
    assert sorted(p.name for p in tiny_image.parent.iterdir()) == ["again", "guest-agent", "tiny"]


@pytest.mark.parametrize("how", ["powerdown", "ctrl-alt-del", "poweroff"])
def test_a_guest_boots_gets_its_lease_reports_and_stops(tiny_image: Path, tmp_path: Path, how: str) -> None:
    seen = run_script("guest_on_a_bridge.py", tiny_image, tmp_path, how, namespaces=("net",), seconds=300)
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


def test_the_canary_tells_emulation_works_and_gives_up_in_time(tiny_image: Path) -> None:
    host = LocalHost()
    assert kvm_probe.boot_canary(host, str(tiny_image), accel="tcg", deadline=60).booted
    started = time.monotonic()
    verdict = kvm_probe.boot_canary(host, str(tiny_image), accel="tcg", deadline=0.5)
    assert not verdict.booted and "0.5 s" in verdict.reason
    assert time.monotonic() - started < 10, "QEMU was ended at the deadline"
