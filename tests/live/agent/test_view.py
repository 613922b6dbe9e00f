"""The host's files as a VM's processes see them, in a mount namespace of the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nqrust.agent import view

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

MOUNTS = """
set -eu
cd {folder}
mkdir seen vm vm/dev vm/devices
touch of-the-disk seen/file vm/file
mount --bind seen seen && mount -o remount,bind,nosuid seen
odd=odd$(printf '\\351') # no UTF-8
mkdir "$odd" && mount --bind "$odd" "$odd"
named='of 1 %s#\\040' # the last is no blank
line='of
a line
'
for name in "$named" "$line"; do mkdir "$name" && mount --bind "$name" "$name"; done
mkdir memory && mount -t tmpfs none memory
mkdir -p under/it && mount -t tmpfs below under/it && mount -t tmpfs above under && mkdir under/it
mount -t tmpfs none /run && touch /run/below
mount --bind of-the-disk /run/below
mkdir new && mount -t tmpfs none new && mkdir new/pts && touch new/below
(cd /dev && cp -a null zero random urandom tty {folder}/new) && mount --bind /dev/pts new/pts
mount --move new /dev && mount --bind of-the-disk /dev/below
mount --bind vm vm
{table} && {filled} && {closed}
touch vm/file
[ ! -e /run/below ] && [ ! -e /dev/below ]
if touch seen/file 2>/dev/null || touch of-the-disk 2>/dev/null || touch "$odd/file" 2>/dev/null; then exit 3; fi
for name in "$named" "$line" memory under/it; do if touch "$name/file" 2>/dev/null; then echo "$name" >&2; exit 4; fi; done
grep -q "^[^ ]* {folder}/seen [^ ]* ro,nosuid," /proc/self/mounts
"""


ALL = """
mount() { # at the first of the host's mounts
    case " $* " in *" -a "*mounts-of-host*) FAILS ;; esac
    command mount "$@"
}
"""


@pytest.mark.parametrize("fails", ["", ":", "return 1", "return 0"], ids=["plain", "watched", "fails", "does nothing"])
def test_mounts_below_hidden_folders_are_passed_over_in_silence(tmp_path: Path, fails: str) -> None:
    """What the launcher writes is on the console that a user sees, before the guest's first line. Nothing of the host can be written
    to, also if one call does not do all of its mounts."""
    vm = f"{tmp_path}/vm"
    mounts = (*view.hidden(str(tmp_path)), *view.devices(vm))
    script = MOUNTS.format(
        folder=tmp_path, table=view.mounted(mounts, f"{vm}/mounts"), filled=view.filled(vm), closed=view.closed(vm)
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", (ALL.replace("FAILS", fails) if fails else "") + script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
