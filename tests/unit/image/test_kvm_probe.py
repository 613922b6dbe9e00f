"""A test boot decides about a host's virtualization: only a marker in time counts as success."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.contract.images import Blob, ImageManifest
from nqrust.host.errors import CommandFailed, CommandTimedOut
from nqrust.host.port import Command, Completed
from nqrust.image import kvm_probe

FOLDER = "/srv/images/tiny"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost.debian12()
    blob = Blob(file="x", size=1, sha256="0" * 64)
    manifest = ImageManifest(name="tiny", rootfs=blob, kernel=blob, initrd=blob, created_at="2026-01-01T00:00:00Z")  # type: ignore[arg-type]
    host.put(f"{FOLDER}/image.json", manifest.model_dump_json())
    host.install(kvm_probe.QEMU)
    return host


def answering(host: FakeHost, answer: object) -> kvm_probe.Verdict:
    host.on(f"/usr/bin/{kvm_probe.QEMU}", prefix=True, answer=answer)
    return kvm_probe.boot_canary(host, FOLDER, accel="tcg", deadline=15)


def test_kvm_probe_passes_when_the_canary_boots(host: FakeHost) -> None:
    assert answering(host, f"SeaBIOS\n{kvm_probe.MARKER}\n").booted


@pytest.mark.parametrize(
    "answer",
    [
        "Kernel panic\n",
        CommandTimedOut(("qemu",), 15),
        CommandFailed(("qemu",), -6, "Assertion failed"),
        Completed(("qemu",), 0, "", ""),
    ],
)
def test_kvm_probe_fails_with_a_reason_without_a_boot(host: FakeHost, answer: object) -> None:
    verdict = answering(host, answer)
    assert not verdict.booted and verdict.reason.endswith(".")


@pytest.mark.parametrize(
    ("seconds", "code", "reason"),
    [
        (9.0, -9, "The kernel did not start within 5 s of processor time under KVM."),
        (0.5, -9, "QEMU ended with -9: no message."),  # for lack of memory
        (9.0, 1, "QEMU ended with 1: no message."),
    ],
)
def test_limit_of_processor_time_is_told_from_other_ends(host: FakeHost, seconds: float, code: int, reason: str) -> None:
    host.put("/dev/kvm", "")

    def ends(host: FakeHost, cmd: Command) -> CommandFailed:
        host.sleep(seconds)
        return CommandFailed(cmd.argv, code, "")

    host.on("prlimit", "--cpu=5", f"/usr/bin/{kvm_probe.QEMU}", prefix=True, answer=ends)
    assert kvm_probe.boot_canary(host, FOLDER, accel="kvm").reason == reason


def test_without_qemu_or_image_or_device_nothing_is_run(host: FakeHost) -> None:
    assert "No image" in kvm_probe.boot_canary(host, "/nowhere", accel="tcg").reason
    assert "/dev/kvm" in kvm_probe.boot_canary(host, FOLDER, accel="kvm").reason
    host.uninstall(kvm_probe.QEMU)
    assert "not installed" in kvm_probe.boot_canary(host, FOLDER, accel="tcg").reason
    assert host.commands == []


def test_the_canary_has_neither_disk_nor_network() -> None:
    blob = Blob(file="k", size=1, sha256="0" * 64)
    manifest = ImageManifest(name="tiny", rootfs=blob, kernel=blob, created_at="2026-01-01T00:00:00Z")  # type: ignore[arg-type]
    line = kvm_probe.argv("qemu", FOLDER, manifest, "tcg")
    assert "-no-reboot" in line and "-nodefaults" in line
    assert not {"-drive", "-netdev", "-device"} & set(line)
