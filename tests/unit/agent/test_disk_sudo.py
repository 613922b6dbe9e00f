"""The sudoers rule as the installer renders it lets the service user write into a VM's disk, and run nothing else.

In a mount namespace of its own, with /opt, /srv, accounts and sudoers of its own: nothing of this machine is changed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.agent import mounted_images as images

from nqrust.installer.release import bundled

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/files/agent/etc__sudoers.d__nqrust"
UID = 64_999

SCRIPT = f"""
set -eu
work=$1 venv=$2
for folder in /opt /srv /etc/sudoers.d; do mount -t tmpfs -o mode=755 none $folder; done
mkdir -p /opt/nqrust-microvm/libexec /opt/nqrust-microvm/current /srv/fc/vms/a1
cp "$work/helper" /opt/nqrust-microvm/libexec/nqrust-helper; chmod 755 /opt/nqrust-microvm/libexec/nqrust-helper
ln -s "$venv" /opt/nqrust-microvm/current/venv
cp --sparse=always "$work/image" /srv/fc/vms/a1/disk.ext4
{{ cat /etc/passwd; echo 'nqrust:*:{UID}:{UID}::/:/usr/sbin/nologin'; }} >"$work/passwd"
{{ cat /etc/group; echo 'nqrust:*:{UID}:'; }} >"$work/group"
chmod 644 "$work/passwd" "$work/group"
mount --bind "$work/passwd" /etc/passwd; mount --bind "$work/group" /etc/group
echo '@includedir /etc/sudoers.d' >"$work/sudoers"; chmod 440 "$work/sudoers"; mount --bind "$work/sudoers" /etc/sudoers
cp "$work/rule" /etc/sudoers.d/nqrust; chmod 440 /etc/sudoers.d/nqrust
visudo -c >/dev/null
as_service() {{ setpriv --reuid {UID} --regid {UID} --clear-groups "$@"; }}
helper=/opt/nqrust-microvm/libexec/nqrust-helper
for command in "$helper disk-write x" "$helper" "$helper image-info" "cat /etc/shadow" "$helper disk-write --"; do
    # shellcheck disable=SC2086
    if as_service sudo -n $command </dev/null >/dev/null 2>&1; then echo "sudo allows: $command"; exit 9; fi
done
if as_service "$helper" disk-write <"$work/request" >/dev/null 2>&1; then echo "no root was needed"; exit 9; fi
as_service sudo -n "$helper" disk-write <"$work/request"
cp --sparse=always /srv/fc/vms/a1/disk.ext4 "$work/disk"
"""


@pytest.mark.parametrize("kind", images.KINDS)
def test_the_service_user_may_do_this_and_no_more(tmp_path: Path, kind: str) -> None:
    reason = images.why_not(kind)
    lacking = [program for program in ("sudo", "visudo", "setpriv") if shutil.which(program) is None]
    if reason or lacking:
        pytest.skip(reason or f"{' '.join(lacking)} is not installed")
    if any(str(place).startswith(("/opt/", "/srv/")) for place in (ROOT, tmp_path, sys.prefix, sys.base_prefix)):
        pytest.skip("this checkout or its Python lies in a folder that the test hides")
    tmp_path.chmod(0o755)
    images.make(kind, tmp_path / "image", images.plain_tree(tmp_path / "tree"))
    (tmp_path / "helper").write_bytes(bundled.helper_source())
    (tmp_path / "rule").write_text(GOLDEN.read_text().partition("---\n")[2])
    asked = {"vm_id": "a1", "type": kind, "files": [{"path": "/etc/hostname", "content": "web1\n", "mode": 0o644}]}
    (tmp_path / "request").write_text(json.dumps(asked))
    (tmp_path / "request").chmod(0o644)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.prefix], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["code"] == ""
    found = images.contents(kind, tmp_path / "disk", tmp_path / "found")
    assert (found / "etc/hostname").read_text() == "web1\n"
