"""The agent hears from the kernel that another program took out rules, and puts them back before its regular look."""

from __future__ import annotations

from pathlib import Path

from tests.machine_scripts.boot_script import boot_script
from tests.machine_scripts.calling import run_script

NEEDS = ("unshare", "ip", "iptables", "ip6tables", "nft", "mount")


def test_rules_that_another_program_takes_out_are_back_at_once(tmp_path: Path) -> None:
    script = boot_script(tmp_path, *NEEDS)
    found = run_script("followed_rules.py", script, namespaces=("net", "mount"), seconds=120)
    late = {command: seconds for command, seconds in found.items() if not 0 <= seconds < 5}
    assert len(found) == 6 and late == {}, "the regular look comes every 15 seconds, and not in this test"
