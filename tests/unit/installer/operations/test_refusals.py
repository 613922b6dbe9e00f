"""A plan and an install refuse known problems before the first change, with exit code 3."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.installer.engine.errors import PreflightRefused, ReleaseError, StepFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.runner import Runner
from nqrust.installer.operations import refusals, summary
from nqrust.installer.platform.firecracker.source import Source
from nqrust.installer.platform.firecracker.step import FirecrackerPrograms
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.kernel.module import KernelModule
from nqrust.installer.verbs.registry import VERBS

MISSING = FirecrackerPrograms("/opt/x", Source("", "a" * 64, archive="/root/none.tgz"))


def runner(host: FakeHost) -> Runner:
    return Runner(VERBS, host, Journal(MemoryJournalStore(), lambda: 0.0), Originals(host, "/var/lib/originals"), NullReporter())


def test_a_step_that_cannot_be_done_refuses_plan_and_install_alike() -> None:
    host = FakeHost.debian12()
    plan = Plan((PhasePlan("build", "", (Directory("/opt/x"), MISSING)),))
    with pytest.raises(PreflightRefused) as caught:
        refusals.of_preview(runner(host).preview(plan))
    told = summary.refused(caught.value, Request(Settings()))
    assert (caught.value.code, told.outcome, told.exit_code) == ("NQR-REL-043", "refused", 3)
    result = runner(host).run(plan, "install", "1", {})
    assert result.outcome == "refused" and result.failure is not None and result.failure.code == "NQR-REL-043"
    assert not host.exists("/opt/x"), "the step before it was not begun"


def test_a_plan_that_can_be_carried_out_is_not_refused() -> None:
    refusals.of_preview(runner(FakeHost.debian12()).preview(Plan((PhasePlan("build", "", (Directory("/opt/x"),)),))))


@pytest.mark.parametrize("error", [ReleaseError("NQR-REL-001", "No tree.", "Get one."), StepFailed("NQR-REL-041", "No.", "Yes.")])
def test_a_release_that_cannot_be_described_refuses(error: Exception) -> None:
    with pytest.raises(PreflightRefused) as caught, refusals.told_early():
        raise error
    assert caught.value.code == error.code and caught.value.findings == (error,)  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["https://x/v1", "http://127.0.0.1:1/v1", "github:a/b@v1", "/root/releases/v1"])
def test_a_release_from_elsewhere_is_asked_for(source: str) -> None:
    refusals.of_request(Request(Settings.model_validate({"release": {"source": source}})))


def test_plain_http_without_a_key_is_refused_before_anything_is_asked() -> None:
    release = {"source": "http://releases.example/v1"}
    with pytest.raises(PreflightRefused) as caught:
        refusals.of_request(Request(Settings.model_validate({"release": release})))
    assert [one.code for one in caught.value.findings] == ["NQR-REL-027"]
    refusals.of_request(Request(Settings.model_validate({"release": {**release, "public_key": "/root/key.pub"}})))
    mirrored = {"source": "https://releases.example/v1", "mirror": "http://mirror.example/v1"}
    with pytest.raises(PreflightRefused, match=r"mirror\.example"):
        refusals.of_request(Request(Settings.model_validate({"release": mirrored})))


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        ("kernel/arch/x86/kvm/kvm.ko.zst:\n", False),
        ("kernel/arch/x86/kvm/kvm-intel.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz\n", True),
    ],
)
def test_a_module_that_the_kernel_comes_without_refuses(listed: str, known: bool) -> None:
    host = FakeHost.debian12()
    host.put("/proc/sys/kernel/osrelease", "6.1.0-x\n")
    host.put("/lib/modules/6.1.0-x/modules.dep", listed)
    seen = runner(host).preview(Plan((PhasePlan("kvm", "", (KernelModule("kvm_intel"),)),)))
    assert (seen.failure is None) is known
    if not known:
        assert seen.failure is not None and seen.failure.code == "NQR-KVM-103" and "6.1.0-x" in seen.failure.what
