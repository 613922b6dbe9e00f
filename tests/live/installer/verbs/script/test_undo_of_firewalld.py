"""The undo script takes the VM bridge out of firewalld, and drops no settings that are not saved."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nqrust.installer.verbs.firewall.shell import FUNCTIONS

STAYS = ["--remove-interface=fcbr0"]


@pytest.mark.parametrize(
    ("services", "extra", "done"),
    [
        ("ssh", "", ["--reload"]),
        ("ssh https", "", STAYS),
        ("ssh", "--list-all-policies", STAYS),
        ("ssh", "--direct --get-all-rules", STAYS),
        ("ssh", "--get-ipsets", STAYS),
        ("ssh", "--info-ipset=blocked", STAYS),
    ],
)
def test_undo_script_drops_no_settings_of_firewalld(services: str, extra: str, done: list[str], tmp_path: Path) -> None:
    """`extra`: the question whose answer differs at run time. Its answer is what nqr compares too (only_at_run_time)."""
    program = tmp_path / "firewall-cmd"
    program.write_text(f"""#!/bin/sh
case "$*" in
    --state) ;;
    '--permanent --list-all-zones') printf 'public\\n  interfaces: \\n  services: ssh\\n\\nwork\\n  interfaces: \\n\\n' ;;
    --list-all-zones) printf 'nqrust-vms (active)\\n  interfaces: fcbr0\\n\\n'
        printf 'public (default)\\n  interfaces: eth0\\n  services: {services}\\n\\nwork\\n  interfaces: \\n\\n' ;;
    '{extra}') echo more ;;
    *--get-ipsets) echo blocked ;;
    *--list-all-policies) printf 'nqrust-vms-out\n  priority: -1\n\n' ;;
    *--get-all-* | *--info-ipset=*) ;;
    *) for last; do :; done; echo "$last" >>{tmp_path}/done ;;
esac
""")
    program.chmod(0o755)
    frame = 'has() { command -v "$1" >/dev/null; }\ntry() { "$@"; }\nkept() { echo kept; }\n'
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = subprocess.run(
        ["sh", "-euc", f"{frame}{FUNCTIONS}\nforget_zone fcbr0"], env=env, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "done").read_text().split() == done
    assert (said.stdout == "kept\n") is (done != ["--reload"])
