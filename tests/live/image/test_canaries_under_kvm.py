"""Canaries in a real Firecracker and in QEMU under KVM, with the guest that a slow KVM runs in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import bare_guest, real_firecracker

from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed
from nqrust.image import kvm_probe
from nqrust.image.kvm_probe import FLAG, MARKER, boot_canary, boot_firecracker_canary

_reason = real_firecracker.why_not()
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(_reason is not None, reason=_reason or "")]


@pytest.fixture
def image(tmp_path: Path) -> str:
    bare_guest.image(tmp_path)
    return str(tmp_path)


def test_a_canary_boots_in_firecracker(image: str) -> None:
    found = boot_firecracker_canary(LocalHost(), str(real_firecracker.programs() / "firecracker"), image)
    assert found.booted, found
    assert found.reason.startswith("A canary booted under KVM in ")


def test_only_the_guest_speaks_on_standard_output(image: str) -> None:
    heard: list[str] = []

    class Listening(LocalHost):
        def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
            def both(line: str) -> None:
                heard.append(line)
                if on_line:
                    on_line(line)

            return super().run(cmd, on_line=both)

    assert boot_firecracker_canary(Listening(), str(real_firecracker.programs() / "firecracker"), image).booted
    assert heard == [MARKER]


def test_a_canary_boots_in_qemu_under_kvm(image: str) -> None:
    found = boot_canary(LocalHost(), image, accel="kvm", deadline=10)  # (this board has no keyboard to reset it)
    assert found.booted, found


@pytest.mark.parametrize("vmm", ["QEMU", "Firecracker"])
def test_a_kernel_that_only_uses_the_processor_is_ended_early(image: str, vmm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stock kernel does on some nested hosts."""
    monkeypatch.setattr(kvm_probe, "PROCESSOR_SECONDS", 1)
    kernel = Path(image, "vmlinux")
    kernel.write_bytes(kernel.read_bytes().replace(FLAG.encode(), b"nqr.ignore"))  # so it polls its port for ever
    host, program = LocalHost(), str(real_firecracker.programs() / "firecracker")
    began = time.monotonic()
    if vmm == "QEMU":
        found = boot_canary(host, image, accel="kvm", deadline=120)
    else:
        found = boot_firecracker_canary(host, program, image, deadline=120)
    assert (found.booted, found.reason) == (False, "The kernel did not start within 1 s of processor time under KVM.")
    assert time.monotonic() - began < 60


def test_a_canary_that_never_arrives_is_told(image: str) -> None:
    kernel = Path(image, "vmlinux")
    kernel.write_bytes(kernel.read_bytes().replace(b"NQR-CANARY-BOOTED", b"NQR-CANARY-SILENT"))
    found = boot_firecracker_canary(LocalHost(), str(real_firecracker.programs() / "firecracker"), image, deadline=2)
    assert (found.booted, found.reason) == (False, "The machine ended before its kernel had started.")
    kernel.write_bytes(b"no kernel")
    found = boot_firecracker_canary(LocalHost(), str(real_firecracker.programs() / "firecracker"), image, deadline=2)
    assert not found.booted and found.reason.startswith("Firecracker ended with ")
