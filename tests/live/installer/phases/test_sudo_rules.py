"""With real programs: what services may do as root: nothing with the bundled release; with a release that declares privileges exactly those."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.places import ROOT
from tests.unit.installer.phases.test_sudo_rules import PRIVILEGES, context, phase

from nqrust.installer.platform.sudoers import Sudoers

UID = 64_999


SCRIPT = f"""
set -eu
work=$1
for folder in /opt /etc/sudoers.d; do mount -t tmpfs -o mode=755 none $folder; done
mkdir -p /opt/nqrust-microvm/libexec
printf '#!/bin/sh\\nid -u\\n' >/opt/nqrust-microvm/libexec/helper; chmod 755 /opt/nqrust-microvm/libexec/helper
{{ cat /etc/passwd; echo 'nqrust:*:{UID}:{UID}::/:/usr/sbin/nologin'; }} >"$work/passwd"
{{ cat /etc/group; echo 'nqrust:*:{UID}:'; }} >"$work/group"
chmod 644 "$work/passwd" "$work/group"
mount --bind "$work/passwd" /etc/passwd; mount --bind "$work/group" /etc/group
echo '@includedir /etc/sudoers.d' >"$work/sudoers"; chmod 440 "$work/sudoers"; mount --bind "$work/sudoers" /etc/sudoers
cp "$work/rule" /etc/sudoers.d/nqrust; chmod 440 /etc/sudoers.d/nqrust
visudo -c >/dev/null
as_service() {{ setpriv --reuid {UID} --regid {UID} --clear-groups "$@"; }}
helper=/opt/nqrust-microvm/libexec/helper
for command in "$helper look x" "$helper" "$helper other" "cat /etc/shadow" "$helper look --"; do
    # shellcheck disable=SC2086
    if as_service sudo -n $command </dev/null >/dev/null 2>&1; then echo "sudo allows: $command"; exit 9; fi
done
as_service "$helper" look
as_service sudo -n "$helper" look
"""


def test_sudo_rules_allow_only_the_listed_commands(tmp_path: Path) -> None:
    """In a mount namespace of its own, with /opt, accounts and rules of its own: nothing of this machine is changed."""
    lacking = [program for program in ("sudo", "visudo", "setpriv") if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"{' '.join(lacking)} is not installed")
    if any(str(place).startswith("/opt/") for place in (ROOT, tmp_path, sys.prefix, sys.base_prefix)):
        pytest.skip("this checkout or its Python lies in a folder that the test hides")
    tmp_path.chmod(0o755)
    (rules,) = (step for step in phase(context("production", PRIVILEGES), "sudo").steps if isinstance(step, Sudoers))
    (tmp_path / "rule").write_text(rules.content)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [str(UID), "0"]
