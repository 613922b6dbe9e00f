"""The undo script takes a card out of nqr's bridge: with the old files, or not at all if somebody changed one."""

from __future__ import annotations

import base64
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.network import shell

FRAME = """
set -u
missed='' failed=0
kept() { printf 'kept: %s\\n' "$*"; }
has() { true; }
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
try() { "$@" || { echo "failed: $1"; return 1; }; }
"""


def script(folder: Path, restore: list[list[str]]) -> str:
    """The functions and the call, with a folder in the place of /sys."""
    old, new = folder / "old.network", folder / "new.network"
    files = [
        {"path": str(old), "before": base64.b64encode(b"old\n").decode(), "mode": 0o644, "sha256": sha256(b"ours\n").hexdigest()},
        {"path": str(new), "before": None, "mode": 0o644, "sha256": sha256(b"ours\n").hexdigest()},
        {"path": "/var/lib/dhcp/nqr-test.leases", "before": None, "mode": 0o644, "sha256": "0" * 64},
    ]
    host = FakeHost.debian12()
    args = {"link": "eth0", "bridge": "br0", "files": files, "restore": restore}
    lines = shell.card(UndoContext(host, Originals(host, "/o")), args)
    return (
        (FRAME + shell.FUNCTIONS + "\n".join(lines) + "\n")
        .replace("/sys/class/net", str(folder / "net"))
        .replace("/run/", f"{folder}/")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net" / "eth0").mkdir(parents=True)
    (tmp_path / "net" / "br0").mkdir()
    (tmp_path / "net" / "eth0" / "master").symlink_to("../br0")
    for name in ("old.network", "new.network"):
        (tmp_path / name).write_text("ours\n")
    return tmp_path


def run(text: str) -> str:
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=True, env=dict(os.environ))
    return done.stdout + done.stderr


def test_old_files_come_back_and_the_manager_reads_them(folder: Path) -> None:
    (folder / "old.network").chmod(0o640)
    said = run(script(folder, [["touch", str(folder / "read it")]]))
    assert said.startswith("eth0 goes back to its old network now. No guard watches this")
    assert (folder / "old.network").read_text() == "old\n" and not (folder / "new.network").exists()
    assert (folder / "old.network").stat().st_mode & 0o777 == 0o640
    assert (folder / "read it").exists()


@pytest.mark.parametrize(("name", "content"), [("old.network", "theirs\n"), ("new.network", "theirs\n")])
def test_card_stays_where_somebody_changed_a_file(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    said = run(script(folder, [["touch", str(folder / "read it")]]))
    assert said == f"kept: {folder / name} was changed since, so eth0 stays in br0\n"
    assert (folder / name).read_text() == content and not (folder / "read it").exists()


def test_script_that_was_cut_off_runs_again(folder: Path) -> None:
    assert "failed: sh" in run(script(folder, [["false"]]))
    assert (folder / "old.network").read_text() == "old\n" and not (folder / "new.network").exists()
    run(script(folder, [["touch", str(folder / "read it")]]))
    assert (folder / "read it").exists()
    (folder / "read it").unlink()
    assert run(script(folder, [["touch", str(folder / "read it")]])).startswith("kept: the files of nqr are gone")
    assert not (folder / "read it").exists(), "it ended the last time, so somebody else put the card into that bridge"


def test_records_of_one_card_are_tried_once(folder: Path) -> None:
    """Each run that was interrupted left one, and each attempt takes the network away."""
    text = script(folder, [["sh", "-c", f"echo tried >>{folder / 'tried'}; false"]])
    call = text.index("\ntake_card_back ")
    said = run(text + text[call:])
    assert said.count("failed: sh") == 1 and (folder / "tried").read_text() == "tried\n", said
    run(script(folder, [["true"]]))
    assert not (folder / "nqrust-undo-eth0").exists(), "the next run tries it again"


def test_files_go_though_the_card_is_in_no_bridge(folder: Path) -> None:
    """The next boot would put it into the bridge again."""
    (folder / "net" / "eth0" / "master").unlink()
    run(script(folder, [["true"]]))
    assert (folder / "old.network").read_text() == "old\n" and not (folder / "new.network").exists()
