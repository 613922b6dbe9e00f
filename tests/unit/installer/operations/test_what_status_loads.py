"""`nqr status` and `nqr plan` load no network clients, and `nqr status` nothing that only changes hosts: people and monitoring
run them often."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.places import ROOT

HEAVY = ("httpx", "websockets", "tenacity", "asyncio", "rich.console", "textual", "nqrust.client.manager", "nqrust.contract.vms")
NOT_FOR_STATUS = (
    *HEAVY, "cryptography", "nqrust.image.tiny", "nqrust.image.container", "nqrust.installer.operations.installing",
    "nqrust.installer.operations.remove", "nqrust.installer.proofs.canary",
)  # fmt: skip
SCRIPT = """
import sys
import nqrust.cli.install.state, nqrust.cli.install.gathering
from nqrust.installer import operations, planner
operations.%s
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

files = ReleaseFiles(RELEASE, "/var/cache/nqrust-microvm/releases/1.2.3")
python = Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11")
context = Context(settings=Settings(), facts=fit(), secrets=SECRETS, files=files, python=python)
plan = planner.plan(context)
assert any(phase.steps for phase in plan.phases)
print(" ".join(name for name in %r if name in sys.modules))
"""


@pytest.mark.parametrize(("operation", "heavy"), [("status", NOT_FOR_STATUS), ("plan", HEAVY)])
def test_status_and_plan_load_no_network_clients(operation: str, heavy: tuple[str, ...]) -> None:
    script = SCRIPT % (operation, heavy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
