"""Reading a path that another user has filled: what waits for a writer, or never ends, is refused."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from nqrust.host.errors import PathError
from nqrust.host.facts import postgres
from nqrust.host.local import LocalHost
from nqrust.installer.operations.images import unusable

pytestmark = pytest.mark.timeout(20)


@pytest.mark.parametrize("way", ["itself", "a link"])
@pytest.mark.parametrize("what", ["a pipe", "a device"])
def test_what_never_ends_is_not_read(tmp_path: Path, what: str, way: str) -> None:
    path = tmp_path / "file"
    target = tmp_path / "target" if way == "a link" else path
    if what == "a pipe":
        os.mkfifo(target)
    elif way == "itself" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    elif way == "itself":
        try:
            os.mknod(target, 0o20666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("cannot make devices here")
    else:
        target = Path("/dev/zero")
    if way == "a link":
        path.symlink_to(target)
    host = LocalHost()
    try:
        for read in (lambda: host.read_text(f"{path}"), lambda: host.read_bytes(f"{path}", 10), lambda: host.sha256(f"{path}")):
            with pytest.raises(PathError, match="is not a file"):
                read()
    finally:
        path.unlink()


def test_a_pipe_in_the_place_of_a_manifest_or_of_settings_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "images/x").mkdir(parents=True)
    os.mkfifo(tmp_path / "images/x/image.json")
    assert unusable(LocalHost(), f"{tmp_path}/images", has_agent=True) == ()
    os.mkfifo(tmp_path / "postgresql.conf")
    assert postgres._cluster(LocalHost(), 15, "main", str(tmp_path), str(tmp_path)).port == 5432


def test_pipes_of_a_shell_null_and_terminals_are_read() -> None:
    """People name them as files: `--join-token-file <(…)`, /dev/stdin, /dev/null."""
    read = "import sys\nfrom nqrust.host.local import LocalHost\nprint(repr(LocalHost().read_text(sys.argv[1])))"
    reader = [sys.executable, "-c", read]
    said = subprocess.run(["bash", "-c", 'exec "$@" <(sleep 0.3; echo token)', "-", *reader], capture_output=True, text=True)
    assert said.stdout == "'token\\n'\n", said.stderr
    said = subprocess.run([*reader, "/dev/stdin"], input="token\n", capture_output=True, text=True)
    assert said.stdout == "'token\\n'\n", said.stderr
    assert LocalHost().read_text("/dev/null") == ""
    ours, theirs = pty.openpty()
    os.write(ours, b"token\n\x04")
    assert LocalHost().read_text(os.ttyname(theirs)) == "token\n"
    os.close(ours)
    os.close(theirs)
