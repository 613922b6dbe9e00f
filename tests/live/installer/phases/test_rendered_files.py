"""With real programs: every file that an installation writes, as golden files: a change of what lands on a host is seen in review."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.unit.installer.phases.test_bridged import context
from tests.unit.installer.phases.test_rendered_files import rendered

from nqrust.installer.phases.network import boot_script


def test_the_network_script_is_a_shell_script() -> None:
    if shutil.which("sh") is None:
        pytest.skip("no sh here")
    for case in ("production", "isolated-minimal"):
        text = rendered(case)["/opt/nqrust-microvm/libexec/nqrust-network"].split("---\n", 1)[1]
        assert subprocess.run(["sh", "-n"], input=text.encode(), check=False).returncode == 0


def test_the_script_for_a_lans_bridge_is_a_shell_script() -> None:
    if shutil.which("sh") is None:
        pytest.skip("no sh here")
    assert subprocess.run(["sh", "-n"], input=boot_script(context()).encode(), check=False).returncode == 0
