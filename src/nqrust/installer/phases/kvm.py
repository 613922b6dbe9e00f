"""Phase 3: access to /dev/kvm. If the host cannot load modules, it adds a note and uses the existing device.

Three kinds of KVM: kvm_intel, kvm_amd, and others that are loaded already or built in, such as a paravirtual one.
"""

from __future__ import annotations

from nqrust.contract import names
from nqrust.host.facts.model import Facts
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.preflight.machine import MODULES
from nqrust.installer.verbs.account.group import Group
from nqrust.installer.verbs.file.directory import Directory
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
    module = MODULES.get(facts.cpu.virtualisation or "") or facts.kvm.module
    loadable = facts.kernel.modules_loadable and bool(module) and not facts.container  # a container has its host's modules
    steps: list[Step] = [Group(names.KVM_GROUP)]
    notes: list[str] = []
    if loadable:
        steps += [
            KernelModule(module, loadable=True, provides=DEVICE),
            File(MODULES_FILE, f"# Written by nqr.\n{module}\n", what="load it at boot"),
        ]
        if settings.nested and module in MODULES.values():
            steps.append(
                File(
                    OPTIONS_FILE,
                    f"# Written by nqr.\noptions {module} nested=1\n",
                    what="nested virtualization",
                )
            )
    else:
        notes.append(_note(facts))
    # A host can get udev later. In a container it has nothing to do.
    if {"udev", "systemd-udev"} & facts.packages or not facts.container:
        steps += [Directory("/etc/udev"), Directory("/etc/udev/rules.d")]
        rule = f'# Written by nqr.\nKERNEL=="kvm", GROUP="{names.KVM_GROUP}", MODE="0660"\n'
        steps.append(File(UDEV_FILE, rule, what="access to /dev/kvm after a reboot"))
    if facts.kvm.present or loadable:
        steps.append(Mode(DEVICE, 0o660, "root", names.KVM_GROUP, optional=True))
    return PhasePlan("kvm", title, tuple(steps), tuple(notes), keeps=_keeps(nested=settings.nested))


def _note(facts: Facts) -> str:
    if facts.container and not facts.kvm.present:
        return (
            "This container has no /dev/kvm: VMs will run under emulation. Give it the device (--device /dev/kvm, --bind=/dev/kvm) "
            "and load KVM's module on its host."
        )
    if facts.container:
        return f"This container uses /dev/kvm of its host{_of(facts)}. A test VM checks whether it works."
    if not facts.kvm.present:
        return "This host has no /dev/kvm and no module for it: VMs will run under emulation."
    return f"This host cannot load kernel modules. A test VM checks whether /dev/kvm{_of(facts)} works."


def _of(facts: Facts) -> str:
    return f" (module {facts.kvm.module})" if facts.kvm.module else ""


def _keeps(*, nested: bool) -> tuple[str, ...]:
    """Return the ids that a plan after a reboot might contain, because no setting determines whether this machine has KVM."""
    files = (MODULES_FILE, UDEV_FILE, *((OPTIONS_FILE,) if nested else ()))
    folders = ("directory:/etc/udev", "directory:/etc/udev/rules.d")
    return ("kernel-module:*", f"mode:{DEVICE}", *folders, *(f"file:{path}" for path in files))
