"""pg_hba.conf belongs to the cluster's owner, who can put anything in its place while root edits it."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pty
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nqrust.host.errors import PathError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed, Host
from nqrust.installer.engine.errors import StepConflict
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.file.undo import undo_block_text, undo_mode
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.hba import HbaFile
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.script.prelude import PRELUDE

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("setpriv", "setsid"))), reason="needs root, to be another user too"
)

OWNER = pwd.getpwnam("nobody")
MARKER = "nqrust-microvm database role nexus"
BLOCK = f'# BEGIN {MARKER}\nlocal all "nexus" reject\n# END {MARKER}\n'
RULES = "local all all peer\n# and so on, without an end of line"
ROOTS = "a file of root\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """`etc` with a pg_hba.conf belongs to the owner, `root` with a file of the same name to root."""
    with tempfile.TemporaryDirectory(prefix="nqr-hba-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        for name in ("etc", "root"):
            Path(folder, name).mkdir(mode=0o755)
        put(Path(folder, "etc/pg_hba.conf"), BLOCK + RULES, 0o640, OWNER.pw_uid, OWNER.pw_gid)
        put(Path(folder, "root/pg_hba.conf"), ROOTS, 0o600)
        os.chown(Path(folder, "etc"), OWNER.pw_uid, OWNER.pw_gid)
        yield Path(folder)


def put(path: Path, text: str, mode: int, uid: int = 0, gid: int = 0) -> None:
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, uid, gid)


def access(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def unhurt(place: Path) -> bool:
    file = place / "root/pg_hba.conf"
    return (file.read_text(), access(file), os.listdir(place / "root")) == (ROOTS, (0o600, 0, 0), ["pg_hba.conf"])


def run_script(undo: Undo, *, meanwhile: str = "", tool: str = "awk", original: str = "") -> subprocess.CompletedProcess[str]:
    """Run its part of undo.sh. `meanwhile`: what the owner does when the script comes to this tool for the first time."""
    kept = Originals(LocalHost(), "/nowhere")
    kept.read = lambda digest: original.encode()  # type: ignore[method-assign]
    calls = "\n".join(script.lines_of(UndoContext(LocalHost(), kept), undo))
    ids = f"--reuid={OWNER.pw_uid} --regid={OWNER.pw_gid} --clear-groups"
    once = f"{tool}() {{ setpriv {ids} -- sh -c '{meanwhile}'; unset -f {tool}; {tool} \"$@\"; }}\n" if meanwhile else ""
    text = PRELUDE.partition("cd / || exit 1\n")[2] + once + f'{calls}\necho "failed: $failed"\npwd\n'
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.stdout.splitlines()[-1:] == ["/"], done.stderr
    return done


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "folders"),
    [
        (OWNER.pw_uid, OWNER.pw_gid, 0o640, (0o755, OWNER.pw_uid)),
        (OWNER.pw_uid, 0, 0o600, (0o700, OWNER.pw_uid)),
        (0, OWNER.pw_gid, 0o640, (0o700, OWNER.pw_uid)),  # as a program for configurations puts it there
        (0, 0, 0o644, (0o1777, 0)),
        (54321, 54321, 0o600, (0o700, 54321)),  # no account has these numbers
        (OWNER.pw_uid, OWNER.pw_gid, 0o600, (0o755, 0)),
        (0, 0, 0o644, (0o755, 0)),
    ],
)
@pytest.mark.parametrize("prior", ["", f"# BEGIN {MARKER}\nof before\n# END {MARKER}\n"])
def test_the_script_keeps_owner_and_mode(
    place: Path, uid: int, gid: int, mode: int, folders: tuple[int, int], prior: str
) -> None:
    file = place / "etc/pg_hba.conf"
    put(file, BLOCK + RULES, mode, uid, gid)
    os.chown(place / "etc", folders[1], -1)
    (place / "etc").chmod(folders[0])
    done = run_script(undo_block_text(str(file), MARKER, prior=prior))
    assert done.stdout == "failed: 0\n/\n", done.stderr
    assert (file.read_text(), access(file)) == (prior + RULES, (mode, uid, gid))
    assert os.listdir(place / "etc") == ["pg_hba.conf"]


@pytest.mark.parametrize("owner", [OWNER.pw_uid, 0], ids=["the owner's", "root's"])
@pytest.mark.parametrize(
    ("tool", "meanwhile"),
    [
        ("awk", "ln -s {0}/root/pg_hba.conf {0}/etc/.pg_hba.conf.nqr-new"),
        ("awk", "mv {0}/etc/pg_hba.conf {0}/etc/old; ln -s {0}/root/pg_hba.conf {0}/etc/pg_hba.conf"),
        ("stat", "mv {0}/etc/pg_hba.conf {0}/etc/old; ln -s {0}/root/pg_hba.conf {0}/etc/pg_hba.conf"),
    ],
)
def test_the_script_writes_through_no_link(place: Path, owner: int, tool: str, meanwhile: str) -> None:
    file = place / "etc/pg_hba.conf"
    os.chown(file, owner, OWNER.pw_gid)
    done = run_script(undo_block_text(str(file), MARKER, prior=""), meanwhile=meanwhile.format(place), tool=tool)
    assert unhurt(place), done.stdout + done.stderr
    assert ROOTS not in "".join(path.read_text() for path in (place / "etc").iterdir() if not path.is_symlink())


def test_the_script_leaves_what_a_link_of_the_owner_leads_to(place: Path) -> None:
    (place / "etc").rename(place / "old")
    (place / "etc").symlink_to(place / "root")
    assert run_script(undo_block_text(f"{place}/etc/pg_hba.conf", MARKER, prior="")).stdout == "failed: 0\n/\n"
    assert unhurt(place)


# --- other files in folders of the owner, such as the log of initdb


def prior_of(file: Path, mode: int, uid: int, gid: int) -> Undo:
    names = (
        [one.pw_name for one in pwd.getpwall() if one.pw_uid == uid],
        [one.gr_name for one in grp.getgrall() if one.gr_gid == gid],
    )
    prior = {"kind": "file", "sha256": hashlib.sha256(RULES.encode()).hexdigest(), "mode": mode, "xattrs": {}}
    return Undo("file", {"path": str(file), "ours": None, "prior": {**prior, "owner": names[0][0], "group": names[1][0]}})


@pytest.mark.parametrize("name", ["pg_hba.conf.nqr-new", ".pg_hba.conf.nqr-new"])
@pytest.mark.parametrize("tool", ["stat", "base64", "setsid", "mv"])
def test_the_script_puts_a_file_back_through_no_link(place: Path, name: str, tool: str) -> None:
    if tool == "stat":
        (place / "etc" / name).symlink_to(place / "root/pg_hba.conf")
    plant = f"ln -sfn {place}/root/pg_hba.conf {place}/etc/{name}"
    run_script(prior_of(place / "etc/pg_hba.conf", 0o666, OWNER.pw_uid, OWNER.pw_gid), meanwhile=plant, tool=tool, original=RULES)
    assert unhurt(place)


@pytest.mark.parametrize("tool", ["chmod", "setsid", "chown"])
def test_the_script_sets_no_mode_through_a_link(place: Path, tool: str) -> None:
    file = place / "etc/pg_hba.conf"
    plant = f"ln -sfn {place}/root/pg_hba.conf {file}"
    run_script(undo_mode(str(file), 0o666, OWNER.pw_name, grp.getgrgid(OWNER.pw_gid).gr_name), meanwhile=plant, tool=tool)
    assert unhurt(place)


# --- the same by nqr


class _Scripted(LocalHost):
    """Where psql says that the file is in `etc`, and the owner comes before nqr edits it."""

    def __init__(self, place: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.place, self.meanwhile = place, meanwhile

    def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
        assert cmd.argv[0].endswith("psql") and cmd.user == OWNER.pw_name
        asked = bytes(cmd.input or b"")  # type: ignore[arg-type]
        return Completed(cmd.argv, 0, f"{self.place}/etc/pg_hba.conf\n" if b"SHOW hba_file" in asked else "", "")

    def write_file(self, path: str, data: Any, **kept: Any) -> None:
        self.meanwhile()
        super().write_file(path, data, **kept)

    def edit_file(self, path: str, change: Callable[[bytes], bytes | None], **how: bool) -> None:
        def first(before: bytes) -> bytes | None:
            after = change(before)
            if after is not None:
                self.meanwhile()
            return after

        super().edit_file(path, first, **how)


class _Cluster(ClusterChoice):
    def find(self, host: Host) -> PostgresCluster | None:
        return PostgresCluster(15, "main", 5432, True, OWNER.pw_name, "/nowhere", "/nowhere")


def swap_folder(place: Path) -> None:
    (place / "etc").rename(place / "old")
    (place / "etc").symlink_to(place / "root")


def swap_file(place: Path) -> None:
    (place / "etc/pg_hba.conf").rename(place / "etc/old")
    (place / "etc/pg_hba.conf").symlink_to(place / "root/pg_hba.conf")


@pytest.mark.parametrize("swap", [swap_folder, swap_file])
@pytest.mark.parametrize("rules", [RULES, BLOCK + RULES])
def test_nqr_writes_through_no_link(place: Path, swap: Callable[[Path], None], rules: str) -> None:
    file = place / "etc/pg_hba.conf"
    put(file, RULES, 0o640, OWNER.pw_uid, OWNER.pw_gid)
    host = _Scripted(place, lambda: swap(place))
    if rules is RULES:
        SignInRules(_Cluster(), "nexus").apply(host)
    else:
        put(file, rules, 0o640, OWNER.pw_uid, OWNER.pw_gid)
        undo = undo_block_text(str(file), MARKER, prior="")
        VERBS.revert(UndoContext(host, Originals(host, "/nowhere")), undo)
    assert unhurt(place)
    assert "old" in os.listdir(place) + os.listdir(place / "etc"), "the owner came"


def test_nqr_follows_no_folder_that_became_a_link(place: Path) -> None:
    put(place / "etc/pg_hba.conf", RULES, 0o640, OWNER.pw_uid, OWNER.pw_gid)
    host = LocalHost()
    file = HbaFile(f"{place}/etc/pg_hba.conf")
    block = Block(file.path, "database role nexus", ('local all "nexus" reject',), at_top=True)
    for text in (ROOTS, RULES):
        put(place / "root/pg_hba.conf", text, 0o600)
        if text == ROOTS:
            swap_folder(place)
        with pytest.raises(PathError, match="there is a link on the way"):
            file.apply(host, _Cluster().require(host), block)
        assert (place / "root/pg_hba.conf").read_text() == text
    (place / "etc").unlink()
    with pytest.raises(PathError):
        file.apply(host, _Cluster().require(host), block)
    assert not (place / "etc").exists()


@pytest.mark.parametrize("kind", ["a FIFO", "root's"])
def test_nqr_takes_no_other_file_for_the_rules(place: Path, kind: str) -> None:
    file = place / "etc/pg_hba.conf"
    if kind == "a FIFO":
        file.unlink()
        os.mkfifo(file)
    else:
        put(file, ROOTS, 0o600)
    host = _Scripted(place, lambda: None)
    step = SignInRules(_Cluster(), "nexus")
    found = step.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-DB-113"
    for act in (step.prepare, step.apply):
        with pytest.raises(StepConflict):
            act(host)
    assert kind == "a FIFO" or file.read_text() == ROOTS


# --- the terminal


@pytest.mark.parametrize(
    "switch",
    [
        "as_user nobody",
        "has() { [ $1 != runuser ]; }; as_user nobody",
        f"worker= owner={OWNER.pw_uid} group={OWNER.pw_gid}; as_worker",
    ],
    ids=["as_user", "without runuser", "as_worker"],
)
def test_another_user_does_not_get_the_terminal(switch: str) -> None:
    """Its programs could type there, as root (TIOCSTI)."""
    asked = "sh -c 'id -u; id -G; : >/dev/tty' 2>/dev/null"
    text = PRELUDE.partition("cd / || exit 1\n")[2] + f"{switch} {asked}; echo got $?\n{asked}; echo root $?\n"
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("sh", ["sh", "-c", text])
    said = b""
    with contextlib.suppress(OSError):  # EIO: it has ended
        while piece := os.read(terminal, 4096):
            said += piece
    os.close(terminal)
    os.waitpid(child, 0)
    uid, gids, got, *roots = said.decode().splitlines()
    assert (uid, gids, roots[0], roots[-1]) == (str(OWNER.pw_uid), str(OWNER.pw_gid), "0", "root 0"), said
    assert got.startswith("got ") and got != "got 0"
