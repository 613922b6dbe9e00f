"""The KVM phase on each kind of host: whose KVM it is, what stays after a reboot, and what a container can do."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.facts import kvm as probe
from nqrust.host.facts.cpu import parse_cpuinfo
from nqrust.host.facts.model import Cpu, Facts, Kernel, Kvm
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.phases import kvm
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.machine import virtualisation
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File

NO_MODULES = Kernel("6.1.0", (6, 1), "x86_64")
NONE = Kvm(False, False, "/dev/kvm is not there")
PARAVIRTUAL = Kvm(True, True, module="kvm_pvm")
PLAIN = frozenset({"fpu", "hypervisor"})


def cpu(vendor: str, flag: str) -> Cpu:
    return parse_cpuinfo(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: x\nflags\t\t: fpu {flag}\n")


def plan(facts: Facts, *, nested: bool = False) -> PhasePlan:
    python = Interpreter("/usr/bin/python3", "3.11.2", "/usr/bin/python3")
    settings = Settings.model_validate({"nested": nested})
    return kvm.plan(Context(settings, facts, SECRETS, ReleaseFiles(RELEASE, "/x"), python))


class Row(NamedTuple):
    name: str
    facts: Facts
    module: str
    """The module that is loaded now and at boot; "" for none."""
    option: bool
    """Whether nested virtualization is an option of that module."""
    rule: bool
    says: str = ""


ROWS = [
    Row("Intel", fit(cpu=cpu("GenuineIntel", "vmx"), kvm=NONE), "kvm_intel", True, True),
    Row("AMD", fit(cpu=cpu("AuthenticAMD", "svm"), kvm=NONE), "kvm_amd", True, True),
    Row("Hygon", fit(cpu=cpu("HygonGenuine", "svm"), kvm=NONE), "kvm_amd", True, True),
    Row("Zhaoxin", fit(cpu=cpu("  Shanghai  ", "vmx"), kvm=NONE), "kvm_intel", True, True),
    Row("paravirtual, as a module", fit(cpu=Cpu(2, PLAIN), kvm=PARAVIRTUAL), "kvm_pvm", False, True),
    Row(
        "paravirtual, built in",
        fit(cpu=Cpu(2, PLAIN), kvm=PARAVIRTUAL, kernel=NO_MODULES),
        "",
        False,
        True,
        "kvm_pvm",
    ),
    Row("Intel, built in", fit(kernel=NO_MODULES, kvm=Kvm(True, True, module="kvm_intel")), "", False, True, "kvm_intel"),
    Row("nothing", fit(cpu=Cpu(2), kvm=NONE), "", False, True, "emulation"),
    Row(
        "a container with the device", fit(container="docker", kvm=Kvm(True, True, module="kvm_amd")), "", False, False, "kvm_amd"
    ),
    Row("a container without it", fit(container="podman", kvm=NONE), "", False, False, "--device /dev/kvm"),
    Row("a container with udev", fit(container="lxc", packages=frozenset({"udev"})), "", False, True, "of its host"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_kvm_of_each_host_is_planned_for(row: Row) -> None:
    made = plan(row.facts, nested=True)
    files = {step.path: str(step.content) for step in made.steps if isinstance(step, File)}
    modules = [step.id.partition(":")[2] for step in made.steps if step.kind == "kernel-module"]
    assert modules == ([row.module] if row.module else [])
    assert files.get(kvm.MODULES_FILE, "").endswith(f"\n{row.module}\n") == bool(row.module)
    assert (files.get(kvm.OPTIONS_FILE) == f"# Written by nqr.\noptions {row.module} nested=1\n") == row.option
    assert ('GROUP="kvm"' in files.get(kvm.UDEV_FILE, "")) == row.rule
    assert row.says in " ".join(made.notes) and bool(made.notes) == (not row.module)


def test_rule_has_its_folder_where_udev_comes_later() -> None:
    ids = [step.id for step in plan(fit(packages=frozenset())).steps]
    assert ids.index("directory:/etc/udev/rules.d") < ids.index(f"file:{kvm.UDEV_FILE}")


@pytest.mark.parametrize(("folders", "expected"), [
    ((), ""), (("kvm",), ""), (("kvm", "kvm_intel"), "kvm_intel"), (("kvm", "kvm_pvm"), "kvm_pvm"),
    (("kvm", "kvm_aaa", "kvm_amd"), "kvm_amd"),
])  # fmt: skip
def test_module_behind_the_device_is_named(folders: tuple[str, ...], expected: str) -> None:
    host = FakeHost.debian12()
    for name in folders:
        host.put(f"/sys/module/{name}/refcnt", "0\n")
    assert probe.probe(host, Cpu(1)).module == expected


def test_preflight_names_another_kind_of_kvm() -> None:
    (found,) = virtualisation(Settings(), fit(cpu=Cpu(2), kvm=PARAVIRTUAL))
    assert (found.code, found.severity) == ("NQR-PRE-010", Severity.info) and "kvm_pvm" in found.what
