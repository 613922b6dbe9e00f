"""A test boot chooses the VMM. nqr remembers the verdict only as long as it is valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.image.kvm_probe import Verdict
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.platform import vmm_verdict
from nqrust.installer.platform.image import BuiltImage
from nqrust.installer.platform.vmm_verdict import VmmVerdict


class Machine(LocalHost):
    """Files of this machine, with the KVM and the programs of a case."""

    def __init__(self, *, kvm: bool, qemu: bool, kernel: str = "6.1.0") -> None:
        super().__init__()
        self._kvm, self._qemu, self.kernel = kvm, qemu, kernel

    def exists(self, path: str) -> bool:
        return self._kvm if path == "/dev/kvm" else super().exists(path)

    def which(self, program: str) -> str | None:
        if "/" in program:
            return super().which(program)
        return "/bin/sh" if self._qemu else None

    def read_text(self, path: str) -> str:
        return self.kernel if path == "/proc/sys/kernel/osrelease" else super().read_text(path)


@pytest.fixture
def firecracker(tmp_path: Path) -> str:
    (tmp_path / "firecracker").write_text("")
    (tmp_path / "firecracker").chmod(0o755)
    return str(tmp_path / "firecracker")


def boots(monkeypatch: pytest.MonkeyPatch, booted: bool, in_firecracker: bool | None = None) -> list[str]:
    asked: list[str] = []

    def firecracker_canary(host: object, program: str, folder: str, *, deadline: float) -> Verdict:
        asked.append("firecracker")
        return Verdict(booted if in_firecracker is None else in_firecracker, 1.0, "its kernel hung.")

    monkeypatch.setattr(vmm_verdict, "boot_firecracker_canary", firecracker_canary)

    def canary(host: object, folder: str, *, accel: str, deadline: float) -> Verdict:
        asked.append(accel)
        return Verdict(booted=booted, seconds=1.0, reason="it hung.")

    monkeypatch.setattr(vmm_verdict, "boot_canary", canary)
    return asked


CASES = [
    # choice, kvm, qemu, firecracker is there, canary boots -> vmm, accel
    ("auto", True, True, True, True, ("firecracker", "kvm")),
    ("auto", True, True, False, True, ("qemu", "kvm")),
    ("auto", True, True, True, False, ("qemu", "tcg")),
    ("auto", False, True, True, True, ("qemu", "tcg")),
    ("qemu", True, True, True, True, ("qemu", "kvm")),
    ("qemu", True, True, True, False, ("qemu", "tcg")),
    ("firecracker", True, True, True, True, ("firecracker", "kvm")),
    ("firecracker", True, True, True, False, "NQR-VMM-020"),
    ("firecracker", True, True, False, True, "NQR-VMM-020"),
    ("firecracker", False, True, True, True, "NQR-VMM-020"),
    ("auto", True, False, True, True, ("firecracker", "kvm")),
    ("auto", True, False, True, False, "NQR-VMM-021"),
    ("auto", True, False, False, True, "NQR-VMM-021"),
]


@pytest.mark.parametrize(("choice", "kvm", "qemu", "there", "booted", "outcome"), CASES)
def test_the_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firecracker: str,
    choice: str, kvm: bool, qemu: bool, there: bool, booted: bool, outcome: object,
) -> None:  # fmt: skip
    boots(monkeypatch, booted)
    path = str(tmp_path / "vmm.json")
    step = VmmVerdict(choice, "/none", firecracker if there else "/none/firecracker", path=path)
    host = Machine(kvm=kvm, qemu=qemu)
    if isinstance(outcome, str):
        with pytest.raises(StepFailed) as failure:
            step.apply(host)
        assert failure.value.code == outcome and failure.value.cure
        return
    step.apply(host)
    step.verify(host)
    found = json.loads(Path(path).read_text())
    assert (found["vmm"], found["accel"]) == outcome
    assert {"reason", "kernel", "cpu", "decided_at"} <= found.keys()


def test_it_is_remembered_until_the_machine_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firecracker: str) -> None:
    asked = boots(monkeypatch, True)
    step = VmmVerdict("auto", "/none", firecracker, path=str(tmp_path / "vmm.json"))
    step.apply(Machine(kvm=True, qemu=True))
    assert isinstance(step.inspect(Machine(kvm=True, qemu=True)), Satisfied)
    assert len(asked) == 1, "looking at a verdict boots nothing"
    for other in (Machine(kvm=True, qemu=True, kernel="6.2.0"), Machine(kvm=False, qemu=True), Machine(kvm=True, qemu=False)):
        assert isinstance(step.inspect(other), Needed)
    (tmp_path / "vmm.json").write_text("{")
    assert isinstance(step.inspect(Machine(kvm=True, qemu=True)), Needed)


def test_the_verdict_says_what_was_tried_and_why_it_was_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firecracker: str
) -> None:
    path = tmp_path / "vmm.json"
    asked = boots(monkeypatch, booted=False)
    VmmVerdict("auto", "/none", firecracker, path=str(path)).apply(Machine(kvm=True, qemu=True))
    assert asked == ["firecracker", "kvm"]
    assert json.loads(path.read_text())["reason"] == (
        "KVM cannot be used (Firecracker: its kernel hung; QEMU under KVM: it hung); VMs run under emulation, which is slow"
    )
    boots(monkeypatch, booted=True, in_firecracker=False)
    VmmVerdict("auto", "/none", firecracker, path=str(path)).apply(Machine(kvm=True, qemu=True))
    found = json.loads(path.read_text())
    assert (found["vmm"], found["accel"]) == ("qemu", "kvm")
    assert found["reason"] == "a canary booted in QEMU under KVM; Firecracker is not used: its kernel hung"


def test_another_firecracker_is_tried_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firecracker: str) -> None:
    boots(monkeypatch, booted=True)
    host, step = Machine(kvm=True, qemu=True), VmmVerdict("auto", "/none", firecracker, path=str(tmp_path / "vmm.json"))
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)
    Path(firecracker).write_text("another build")
    assert isinstance(step.inspect(host), Needed)


def test_a_probe_that_breaks_means_emulation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, firecracker: str) -> None:
    def broken(*args: object, **kwargs: object) -> Verdict:
        raise HostError("no such image")

    monkeypatch.setattr(vmm_verdict, "boot_canary", broken)
    step = VmmVerdict("auto", "/none", firecracker, path=str(tmp_path / "vmm.json"))
    step.apply(Machine(kvm=True, qemu=True))
    found = json.loads((tmp_path / "vmm.json").read_text())
    assert found["accel"] == "tcg" and "no such image" in found["reason"]


def test_an_image_is_whole_or_wanted(tmp_path: Path) -> None:
    host, step = LocalHost(), BuiltImage(str(tmp_path), "/none")
    assert isinstance(step.inspect(host), Needed)
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "rootfs.ext4").write_bytes(b"123")
    (folder / "vmlinuz").write_bytes(b"1")
    manifest = {"rootfs": {"file": "rootfs.ext4", "size": 3}, "kernel": {"file": "vmlinuz", "size": 1}, "initrd": None}
    (folder / "image.json").write_text(json.dumps(manifest))
    assert isinstance(step.inspect(host), Satisfied)
    (folder / "rootfs.ext4").write_bytes(b"12")
    assert isinstance(step.inspect(host), Needed)
    (folder / "image.json").write_text("{")
    assert isinstance(step.inspect(host), Needed)
    assert step.prepare(host).undo == (), "what was there before is not ours to remove"


def test_a_folder_that_is_no_image_is_not_built_over(tmp_path: Path) -> None:
    host, step = LocalHost(), BuiltImage(str(tmp_path), "/none")
    (tmp_path / "tiny").mkdir()
    assert isinstance(step.inspect(host), Needed), "an empty one is nobody's loss"
    (tmp_path / "tiny" / "dog.jpg").write_bytes(b"1")
    found = step.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-IMG-106" and found.cure
