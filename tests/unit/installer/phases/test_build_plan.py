"""Firecracker in the plan: on request, or if an archive was supplied and nothing prevents its use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.facts.model import Kvm
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases import build
from nqrust.installer.platform.firecracker.source import Source
from nqrust.installer.platform.firecracker.step import FirecrackerPrograms
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.sources import gather

PUBLISHED = Source("1.13.1", "a" * 64, url="https://example/firecracker.tgz")
ARCHIVE = Source("", "a" * 64, archive="/root/firecracker.tgz")


@pytest.mark.parametrize(
    ("vmm", "kvm", "source", "planned", "optional"),
    [
        ("firecracker", True, ARCHIVE, True, False),
        ("firecracker", True, PUBLISHED, True, False),  # refused by the step where it cannot be downloaded
        ("auto", True, ARCHIVE, True, False),
        ("auto", False, ARCHIVE, True, False),
        ("auto", True, PUBLISHED, True, True),
        ("auto", False, PUBLISHED, False, False),
        ("qemu", True, ARCHIVE, False, False),
    ],
)
def test_firecracker_is_installed_where_it_is_asked_for_or_kvm_may_run_it(
    vmm: str, kvm: bool, source: Source, planned: bool, optional: bool
) -> None:
    context = Context(
        settings=gather(flags={"vmm": vmm}, environ={}).settings,
        facts=replace(fit(), kvm=Kvm(present=kvm, usable=kvm)),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        firecracker=source,
    )
    found = [step for step in build.plan(context).steps if isinstance(step, FirecrackerPrograms)]
    assert [(step.source, step.optional) for step in found] == ([(source, optional)] if planned else [])
