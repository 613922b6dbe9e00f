"""The agent hears from the kernel that another program took out rules, and puts them back before its regular look."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.machine_scripts.calling import run_script
from tests.unit.installer.phases.test_rendered_files import rendered

NEEDS = ("unshare", "ip", "iptables", "ip6tables", "nft", "mount")


def test_rules_that_another_program_takes_out_are_back_at_once(tmp_path: Path) -> None:
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or NEEDS)}")
    script = tmp_path / "nqrust-network"
    script.write_text(rendered("production")["/opt/nqrust-microvm/libexec/nqrust-network"].split("---\n", 1)[1])
    script.chmod(0o755)
    found = run_script("followed_rules.py", script, namespaces=("net", "mount"), seconds=120)
    late = {command: seconds for command, seconds in found.items() if not 0 <= seconds < 5}
    assert len(found) == 6 and late == {}, "the regular look comes every 15 seconds, and not in this test"
