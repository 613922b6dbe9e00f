"""Locks of files as the kernel lists them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nqrust.host import locks
from nqrust.host.local import LocalHost

FILE = "/mnt/nqr-lock"
HERE = f"""
set -e
mount -t tmpfs tmpfs /mnt
: >{FILE}
export WANTED=$(stat -c %i {FILE})
unshare --mount sh -ec '
    mount -t tmpfs -o mode=0777 tmpfs /mnt
    until : >/mnt/$((tried += 1)); [ $(stat -c %i /mnt/$tried) -ge $WANTED ]; do :; done
    mv /mnt/$tried {FILE}
    echo "inode $(stat -c %i {FILE}) for $WANTED" >&2
    exec flock --no-fork {FILE} sh -c "echo held; exec sleep 60"
' >/mnt/said &
until grep -q held /mnt/said; do kill -0 $!; sleep 0.05; done
{sys.executable} -c 'from nqrust.host import local, locks; print(locks.holders(local.LocalHost(), "{FILE}"))'
kill $!
"""


def test_holder_of_a_lock_is_found_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.holders(LocalHost(), str(path)) == []
    with path.open("w") as file:
        assert locks.holders(LocalHost(), str(path)) == []
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks.holders(LocalHost(), str(path)) == [os.getpid()]
    assert locks.holders(LocalHost(), str(path)) == []


def test_a_lock_is_waited_for_and_then_done_without(tmp_path: Path) -> None:
    host, path = LocalHost(), tmp_path / "lock"
    with host.locked(str(path), 60):
        assert not path.exists(), "a file that is not there is not made"
    path.write_text("")
    with host.locked(str(path), 60):
        assert locks.holders(host, str(path)) == [os.getpid()]
        began = time.monotonic()
        with host.locked(str(path), 0.2):
            assert time.monotonic() - began >= 0.2
    assert locks.holders(host, str(path)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_the_same_path_and_inode_in_another_mount_namespace_is_another_file() -> None:
    """Any user can have one, in a user namespace, and the agent would put no firewall rules back."""
    made = subprocess.run(
        ("unshare", "--mount", "--propagation", "private", "sh", "-c", HERE),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    told, wanted = made.stderr.split()[1::2]
    if told != wanted:
        pytest.skip("this kernel numbers the inodes of all tmpfs file systems in one row")
    assert made.stdout.strip() == "[]", made.stderr
