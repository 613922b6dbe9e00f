"""An undo script moves edits aside, and nothing of it removes them later."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.live.installer.verbs.script.test_undo_script import context, entry, sh

from nqrust.contract import paths
from nqrust.installer.operations import taking_back
from nqrust.installer.verbs.file.undo import undo_directory, undo_file
from nqrust.installer.verbs.script import whole as script


def test_an_edit_stays_in_a_folder_that_goes_whole(tmp_path: Path) -> None:
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ours").write_text("edited\n" if name == "with" else "new\n")
    digest = hashlib.sha256(b"new\n").hexdigest()
    entries = [
        entry(n, undo_directory(f"{tmp_path / name}", tree=True), undo_file(f"{tmp_path / name}/ours", ours_sha256=digest))
        for n, name in enumerate(("with", "without"), 1)
    ]
    done = sh(script.render(context(), entries, retain=lambda e: False), tmp_path)
    assert done.returncode == 0 and f"{tmp_path}/with holds your version" in done.stdout, done
    assert (tmp_path / "with/ours.nqr-kept").read_text() == "edited\n" and not (tmp_path / "without").exists()


def test_the_end_of_the_script_leaves_edits_in_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "a state"
    for file in ("journal.jsonl", "reach.env.nqr-kept", "dhcp/conf.nqr-kept.2", "dhcp/leases", ".x/y", "lost+found/#1"):
        (state / file).parent.mkdir(parents=True, exist_ok=True)
        (state / file).write_text("x")
    monkeypatch.setattr(paths, "STATE_DIR", str(state))
    monkeypatch.setattr(taking_back, "FORGOTTEN", (str(tmp_path / "logs"),))
    (tmp_path / "logs").mkdir()
    done = sh(script.render(context(), [], retain=lambda e: False, epilogue=taking_back.forget_script()), tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    left = sorted(str(path.relative_to(state)) for path in state.rglob("*") if path.is_file())
    assert left == ["dhcp/conf.nqr-kept.2", "lost+found/#1", "reach.env.nqr-kept"] and not (tmp_path / "logs").exists()
    for path in left:
        (state / path).unlink()
    (state / "lost+found").rmdir()
    sh(script.render(context(), [], retain=lambda e: False, epilogue=taking_back.forget_script()), tmp_path)
    assert not state.exists()
