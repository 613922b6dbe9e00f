"""VMM and accelerator of this host. `auto` follows the installer's verdict from a canary VM.

An existing /dev/kvm proves nothing: a stock kernel can hang under a KVM that passes every probe. Without a verdict the
agent uses QEMU under emulation: slow, but it boots.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from nqrust.host.errors import HostError
from nqrust.host.port import Host


@dataclass(frozen=True)
class Verdict:
    vmm: str  # firecracker | qemu
    accel: str  # kvm | tcg
    reason: str

    @property
    def kvm(self) -> bool:
        """Whether a guest has booted under KVM here."""
        return self.accel == "kvm"


def parse(text: str) -> Verdict | None:
    """Parse the content of vmm.json. Returns None for anything that is not a verdict."""
    try:
        data = json.loads(text)
        vmm, accel, reason = data["vmm"], data["accel"], str(data.get("reason", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if vmm not in ("firecracker", "qemu") or accel not in ("kvm", "tcg") or (vmm, accel) == ("firecracker", "tcg"):
        return None
    return Verdict(vmm, accel, reason)


def decide(choice: str, found: Verdict | None) -> Verdict:
    """Apply the setting AGENT_VMM (`auto`, `firecracker`, `qemu`) to the verdict."""
    accel = found.accel if found else "tcg"
    if choice == "firecracker":
        return Verdict("firecracker", "kvm", "AGENT_VMM says firecracker")
    if choice == "qemu":
        return Verdict("qemu", accel, "AGENT_VMM says qemu" + (f"; {found.reason}" if found and found.reason else ""))
    return found or Verdict("qemu", "tcg", "no canary has booted under KVM on this host yet")


def read(host: Host, path: str, choice: str) -> Verdict:
    """Read the verdict. Each call reads the file, so that a new verdict needs no restart of the agent."""
    try:
        found = parse(host.read_text(path))
    except HostError:
        found = None
    return decide(choice, found)
