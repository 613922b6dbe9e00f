"""Firecracker in the plan: where it was asked for, and where an archive was supplied and nothing speaks against it."""

from __future__ import annotations

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases import build
from nqrust.installer.platform.firecracker import FirecrackerBinary, Supplied
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.sources import gather

ARCHIVE = Supplied("/root/firecracker.tgz", "a" * 64)


@pytest.mark.parametrize(
    ("vmm", "supplied", "planned"),
    [
        ("firecracker", ARCHIVE, True),
        ("firecracker", None, True),  # fails there, and says what to supply
        ("auto", ARCHIVE, True),
        ("auto", None, False),
        ("qemu", ARCHIVE, False),
    ],
)
def test_firecracker_is_installed_from_the_supplied_archive(vmm: str, supplied: Supplied | None, planned: bool) -> None:
    context = Context(
        settings=gather(flags={"vmm": vmm}, environ={}).settings,
        facts=fit(),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
        firecracker=supplied,
    )
    found = [step for step in build.plan(context).steps if isinstance(step, FirecrackerBinary)]
    assert [step.source for step in found] == ([supplied] if planned else [])
