"""Phase 3: access to /dev/kvm. If the host cannot load modules, it adds a note and uses the existing device."""

from __future__ import annotations

from nqrust.contract import names
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.preflight.machine import MODULES
from nqrust.installer.verbs.account.group import Group
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.kernel.module import KernelModule

DEVICE = "/dev/kvm"
MODULES_FILE = "/etc/modules-load.d/nqrust-microvm.conf"
OPTIONS_FILE = "/etc/modprobe.d/nqrust-microvm.conf"
UDEV_FILE = "/etc/udev/rules.d/65-nqrust-microvm.rules"


def plan(context: Context) -> PhasePlan:
    settings, facts = context.settings, context.facts
    title = "KVM"
    if not settings.has_agent:
        return PhasePlan("kvm", title, skipped="no VM runs on a manager")
    module = MODULES.get(facts.cpu.vendor)
    loadable = facts.kernel.modules_loadable and module is not None and facts.cpu.virtualisation is not None
    steps: list[Step] = [Group(names.KVM_GROUP)]
    notes: list[str] = []
    if loadable and module is not None:
        steps += [
            KernelModule(module, loadable=True, provides=DEVICE),
            File(MODULES_FILE, f"# Written by nqr.\n{module}\n", what="load it at boot"),
        ]
        if settings.nested:
            steps.append(
                File(
                    OPTIONS_FILE,
                    f"# Written by nqr.\noptions {module} nested=1\n",
                    what="nested virtualization",
                )
            )
    elif not facts.kvm.present:
        notes.append("This host has no /dev/kvm and no module for it: VMs will run under emulation.")
    else:
        notes.append("This host cannot load kernel modules. A test VM checks whether /dev/kvm works.")
    if {"udev", "systemd-udev"} & facts.packages:
        rule = f'# Written by nqr.\nKERNEL=="kvm", GROUP="{names.KVM_GROUP}", MODE="0660"\n'
        steps.append(File(UDEV_FILE, rule, what="access to /dev/kvm after a reboot"))
    if facts.kvm.present or loadable:
        steps.append(Mode(DEVICE, 0o660, "root", names.KVM_GROUP, optional=True))
    return PhasePlan("kvm", title, tuple(steps), tuple(notes), keeps=_keeps(nested=settings.nested))


def _keeps(*, nested: bool) -> tuple[str, ...]:
    """Return the ids that a plan after a reboot might contain, because no setting determines whether this machine has KVM."""
    files = (MODULES_FILE, UDEV_FILE, *((OPTIONS_FILE,) if nested else ()))
    return ("kernel-module:*", f"mode:{DEVICE}", *(f"file:{path}" for path in files))
