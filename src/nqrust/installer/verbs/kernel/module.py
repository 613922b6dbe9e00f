"""A loaded kernel module. A File step in /etc/modules-load.d loads it at boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.kernel.kvm_users import kvm_users
from nqrust.installer.verbs.kernel.undo import undo_module


@dataclass(frozen=True)
class KernelModule:
    """A kernel module. `loadable`: whether this kernel loads modules (Facts.kernel.modules_loadable). If not, only built-in
    modules exist, and the phase reports that. `provides`: a path that proves a built-in module without a folder in
    /sys/module (/dev/net/tun)."""

    kind: ClassVar[str] = "kernel-module"

    name: str
    loadable: bool = True
    provides: str = ""

    @property
    def id(self) -> str:
        return f"kernel-module:{self.name}"

    @property
    def _shown_at(self) -> str:
        return f"/sys/module/{self.name.replace('-', '_')}"

    def describe(self) -> str:
        return f"load the kernel module {self.name}"

    def inspect(self, host: Host) -> Inspection:
        if host.exists(self._shown_at) or (self.provides and host.exists(self.provides)):
            return Satisfied()
        if not self.loadable:
            return Satisfied(f"{self.name} is not there and this kernel loads no modules")
        if self._built_in(host):
            return Satisfied("built into the kernel")
        if self._unknown(host):
            return Conflict(
                "NQR-KVM-103",
                f"The kernel {_release(host)} comes without the module {self.name}.",
                "Install the modules of the running kernel (on Ubuntu: linux-modules-extra-$(uname -r)), or boot another"
                " kernel, then run the same command again.",
            )
        return Needed((f"modprobe {self.name}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_module(self.name, users=kvm_users(host, self.name)),))

    def apply(self, host: Host) -> None:
        try:
            host.run(command("modprobe", self.name))
        except ProgramMissing as error:
            raise StepFailed(
                "NQR-KVM-101",
                f"The kernel module {self.name} is needed but modprobe is not installed.",
                "Install the package kmod, then run the same command again.",
            ) from error
        except CommandFailed as error:
            said = (error.stderr.strip().splitlines() or [str(error)])[-1].rstrip(".")
            raise StepFailed(
                "NQR-KVM-102",
                f"The kernel module {self.name} could not be loaded: {said}.",
                "Install the modules of the running kernel (or boot the newest installed kernel), then run the same"
                " command again.",
            ) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _built_in(self, host: Host) -> bool:
        """Return whether modules.builtin (kbuild) lists the module."""
        wanted = self.name.replace("-", "_")
        for path in host.glob("/lib/modules/*/modules.builtin"):
            if path.split("/")[3] != _release(host):
                continue
            for line in host.read_text(path).splitlines():
                if line.rpartition("/")[2].removesuffix(".ko").replace("-", "_") == wanted:
                    return True
        return False

    def _unknown(self, host: Host) -> bool:
        """Return whether modules.dep (depmod(8)), which lists every module of a kernel, lacks it. A missing folder proves
        nothing."""
        path = f"/lib/modules/{_release(host)}/modules.dep"
        if not host.exists(path):
            return False
        wanted = self.name.replace("-", "_")
        files = (line.partition(":")[0].rpartition("/")[2] for line in host.read_text(path).splitlines())
        return all(file.partition(".ko")[0].replace("-", "_") != wanted for file in files)


def _release(host: Host) -> str:
    return host.read_text("/proc/sys/kernel/osrelease").strip()
