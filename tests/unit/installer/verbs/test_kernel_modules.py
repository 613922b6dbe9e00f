"""Kernel modules, with captured answers of machines."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import ORIGINALS, reverted, round_trip

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.engine.verb import Forecast, Kept, UndoContext
from nqrust.installer.verbs.kernel import forecast
from nqrust.installer.verbs.kernel.module import KernelModule


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


def test_module_is_loaded_and_unloaded(host: FakeHost) -> None:
    host.put_directory("/sys/module")
    host.on("modprobe", "kvm_intel", changes=True, answer=lambda h, c: h.put_directory("/sys/module/kvm_intel"))
    host.on(
        "modprobe",
        "--remove",
        "kvm_intel",
        changes=True,
        answer=lambda h, c: h.tree.detach("/sys/module/kvm_intel"),
    )
    round_trip(host, KernelModule("kvm_intel"))


@pytest.mark.parametrize("libvirt", ["libvirt-qemu:x:64055:104::/:/bin/false", "", "qemu"])
def test_module_of_kvm_stays_for_users_that_came_since(host: FakeHost, libvirt: str) -> None:
    """libvirt runs no VM now, so nothing holds the module. Users from before nqr, and nqr's own, do not count."""
    host.put("/etc/group", "root:x:0:\nkvm:x:104:nqrust,friend\n")
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nold:x:12:104::/:/bin/sh\n")
    host.put_directory("/sys/module/kvm_intel")
    host.on("modprobe", "--remove", prefix=True, changes=True, answer=lambda h, c: h.tree.detach("/sys/module/kvm_intel"))
    (undo,) = KernelModule("kvm_intel").prepare(host).undo
    assert undo.args == {"name": "kvm_intel", "users": ["friend", "old"]}
    if libvirt == "qemu":
        host.put("/etc/group", "root:x:0:\nkvm:x:104:nqrust,friend,qemu\n")
    else:
        host.put("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nold:x:12:104::/:/bin/sh\n{libvirt}\n")
    told = forecast.module(UndoContext(host, Originals(host, ORIGINALS)), undo.args)
    (outcome,) = reverted(host, [undo])
    assert host.exists("/sys/module/kvm_intel") is bool(libvirt)
    if libvirt:
        assert isinstance(outcome, Kept) and told == Forecast(stays=(outcome.why,))
        assert f"because {libvirt.partition(':')[0]} may use" in outcome.why
    else:
        assert told is None


def test_module_that_is_built_in_is_left_alone(host: FakeHost) -> None:
    host.put("/lib/modules/6.1.0-28-amd64/modules.builtin", "kernel/drivers/net/tun.ko\n")
    host.put_device("/dev/net/tun")
    assert isinstance(KernelModule("tun").inspect(host), Satisfied)
    assert isinstance(KernelModule("nope", provides="/dev/net/tun").inspect(host), Satisfied)
    assert isinstance(KernelModule("nope", loadable=False).inspect(host), Satisfied)
    assert isinstance(KernelModule("nope").inspect(host), Needed)


def test_module_failures_have_cures(host: FakeHost) -> None:
    for error, code in (
        (ProgramMissing("modprobe"), "NQR-KVM-101"),
        (CommandFailed(("modprobe",), 1, "modprobe: FATAL: Module kvm not found"), "NQR-KVM-102"),
    ):
        host.on("modprobe", prefix=True, answer=error)
        with pytest.raises(StepFailed) as caught:
            KernelModule("kvm").apply(host)
        assert caught.value.code == code
