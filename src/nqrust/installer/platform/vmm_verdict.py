"""Step: decide which VMM runs this host's VMs, by booting a canary, and remember the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar

from nqrust.contract.paths import VMM_VERDICT
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host
from nqrust.image.errors import ImageError
from nqrust.image.kvm_probe import PROGRAMS, Verdict, boot_canary, boot_firecracker_canary
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.progress import silent
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.verbs.file.undo import undo_file

QEMU = PROGRAMS[0]


@dataclass(frozen=True)
class VmmVerdict:
    """Write vmm.json: {"vmm", "accel", "reason", "kernel", "cpu", "decided_at", ...}.

    `choice`: auto, firecracker or qemu. `image`: folder of the image whose kernel is the canary. `firecracker`: path
    of its binary. `deadline`: seconds for a boot under KVM. That /dev/kvm is there, or even runs a few instructions,
    proves nothing; only a kernel that booted does. The verdict stands while kernel, processor model, the presence of
    /dev/kvm, both programs, and the choice are the same.
    """

    choice: str
    image: str
    firecracker: str
    deadline: float = 15.0
    path: str = VMM_VERDICT
    progress: Callable[[str, float | None], None] = field(default=silent, compare=False, repr=False)

    kind: ClassVar[str] = "vmm-verdict"

    @property
    def id(self) -> str:
        return "vmm-verdict"

    def describe(self) -> str:
        return "boot a canary to choose the VMM" if self.choice == "auto" else f"check that {self.choice} can run VMs"

    def inspect(self, host: Host) -> Inspection:
        known = self._known(host)
        if known is None:
            return Needed((f"+ {self.path}",))
        now = self._circumstances(host)
        if all(known.get(name) == value for name, value in now.items()):
            return Satisfied(f"{known.get('vmm')} with {known.get('accel')}: {known.get('reason')}")
        return Needed(tuple(f"~ {name}" for name, value in now.items() if known.get(name) != value))

    def prepare(self, host: Host) -> Prepared:
        origin = Origin.created if host.stat(self.path) is None else Origin.modified
        return Prepared(origin, (undo_file(self.path, ours_sha256=None),))

    def apply(self, host: Host) -> None:
        now = self._circumstances(host)
        vmm, accel, reason = self._decide(host, now)
        verdict = {
            "vmm": vmm,
            "accel": accel,
            "reason": reason,
            **now,
            "decided_at": datetime.fromtimestamp(host.now(), timezone.utc).isoformat(timespec="seconds"),
        }
        host.write_file(self.path, (json.dumps(verdict, indent=2) + "\n").encode(), mode=0o644)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _decide(self, host: Host, now: dict[str, Any]) -> tuple[str, str, str]:
        first = self._under_firecracker(host, now)
        if first.booted:
            return "firecracker", "kvm", "a canary booted in Firecracker"
        if self.choice == "firecracker":
            raise StepFailed(
                "NQR-VMM-020",
                f"Firecracker cannot run VMs here: {_clause(first)}.",
                "Use --vmm auto or --vmm qemu; Firecracker needs a host on which KVM boots a Linux kernel.",
            )
        second = self._under_kvm(host, now)
        if not now["qemu"]:
            raise StepFailed(
                "NQR-VMM-021",
                f"There is no VMM on this host: {QEMU} is not installed.",
                "Run nqr install again, so that the distribution's QEMU is installed.",
            )
        if second.booted:
            rest = "as the settings say" if self.choice == "qemu" else f"Firecracker is not used: {_clause(first)}"
            return "qemu", "kvm", f"a canary booted in QEMU under KVM; {rest}"
        tried = [f"QEMU under KVM: {_clause(second)}"]
        if now["kvm"] and now["firecracker"]:
            tried.insert(0, f"Firecracker: {_clause(first)}")
        return "qemu", "tcg", f"KVM cannot be used ({'; '.join(tried)}); VMs run under emulation, which is slow"

    def _under_firecracker(self, host: Host, now: dict[str, Any]) -> Verdict:
        if self.choice == "qemu":
            return Verdict(False, 0.0, "The settings say QEMU.")
        if not now["kvm"]:
            return Verdict(False, 0.0, "/dev/kvm is not there.")
        if not now["firecracker"]:
            return Verdict(False, 0.0, f"{self.firecracker} is not installed.")
        self.progress("booting a canary in Firecracker", None)
        return boot_firecracker_canary(host, self.firecracker, self.image, deadline=self.deadline)

    def _under_kvm(self, host: Host, now: dict[str, Any]) -> Verdict:
        if not now["kvm"]:
            return Verdict(False, 0.0, "/dev/kvm is not there.")
        if not now["qemu"]:
            return Verdict(False, 0.0, f"{QEMU} is not installed.")
        self.progress("booting a canary under KVM", None)
        try:
            return boot_canary(host, self.image, accel="kvm", deadline=self.deadline)
        except (ImageError, HostError) as error:
            return Verdict(False, 0.0, str(error))

    def _circumstances(self, host: Host) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "kernel": _first_line(host, "/proc/sys/kernel/osrelease"),
            "cpu": _cpu_model(host),
            "kvm": host.exists("/dev/kvm"),
            "qemu": _version(host, *PROGRAMS),
            # QEMU does not need it, and a later step removes it if the settings no longer name it.
            "firecracker": _version(host, self.firecracker) if self.choice != "qemu" else "",
        }

    def _known(self, host: Host) -> dict[str, Any] | None:
        try:
            found = json.loads(host.read_text(self.path))
        except (PathMissing, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("vmm") in ("qemu", "firecracker") else None


def _clause(verdict: Verdict) -> str:
    return verdict.reason.rstrip(".")


def _version(host: Host, *programs: str) -> str:
    """Return a text that differs between builds of a program; empty if none of `programs` is there."""
    path = next((there for program in programs if (there := host.which(program))), None)
    found = host.stat(path) if path else None
    return f"{path} {found.size} {found.mtime_ns}" if found else ""


def _first_line(host: Host, path: str) -> str:
    try:
        return host.read_text(path).strip()
    except PathMissing:
        return ""


def _cpu_model(host: Host) -> str:
    match = re.search(r"(?m)^model name\s*:\s*(.+)$", _first_line(host, "/proc/cpuinfo"))
    return match[1].strip() if match else ""


def chosen(host: Host) -> str:
    """Return the VMM and accelerator chosen on this host, such as `qemu tcg`; `unknown` before the choice."""
    try:
        raw = json.loads(host.read_text(VMM_VERDICT))
        return f"{raw['vmm']} {raw['accel']}"
    except (PathMissing, ValueError, KeyError, TypeError):
        return "unknown"
