"""After an uninstall that kept data, the refusals of a fresh host hold again, and what was kept is no obstacle."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.effects.observing import RELEASE, SECRETS
from tests.unit.installer.operations.a_used_platform import (
    DISK,
    DUMP,
    FOLDERS,
    LAYOUT,
    Bench,
    Made,
    bench,
    fails,
    rollback,
    uninstall,
)
from tests.unit.installer.phases.a_host import fit

from nqrust.host.errors import CommandFailed
from nqrust.installer import secret_store
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import looking, site
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.file.undo import undo_file

__all__ = ["bench"]

STEPS = (
    *FOLDERS,
    Mode(LAYOUT.image_dir, 0o1775, "root", "nqrust"),
    Made("migrate", (undo_file(DUMP, ours_sha256=None, retain=Retain.database),), does=lambda host: host.put(DUMP, "dump")),
)


@pytest.fixture
def used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(site, "open_source", lambda *_: Opened(RELEASE, "/bundle/release", "", None))
    monkeypatch.setattr(secret_store, "generate", lambda: SECRETS)
    bench.host.add_group("nqrust", 990)
    assert bench.run(*STEPS).outcome == "ok"
    bench.vm()
    return bench


def found(bench: Bench, **paths: Any) -> dict[str, str]:
    """Code -> sentence of each refusal."""
    request = Request(Settings.model_validate({"mode": "production", "paths": paths}))
    seen = looking.look(bench.site(), request, fit(), NullReporter())
    return {one.code: one.what for checked in seen.checked for one in checked.findings if one.severity.value == "error"}


def test_an_install_over_the_kept_data_is_not_refused(used: Bench) -> None:
    assert found(used) == {}
    assert uninstall().outcome == "ok" and used.host.exists(DUMP)
    assert found(used) == {}
    assert used.run(*STEPS).outcome == "ok" and found(used) == {}


@pytest.mark.parametrize("path", ["/etc", "/usr/local/bin"])
def test_a_folder_of_the_system_is_refused(used: Bench, path: str) -> None:
    uninstall()
    assert set(found(used, image_dir=path)) == {"NQR-PRE-055"}


def test_an_image_folder_of_others_is_refused(used: Bench) -> None:
    uninstall()
    used.host.put_directory("/data/theirs", mode=0o2775, owner="root", group="100")
    assert set(found(used, image_dir="/data/theirs")) == {"NQR-PRE-033"}


@pytest.mark.parametrize(
    "theirs", [f"{LAYOUT.install_dir}/bin/manager", LAYOUT.manager_env, "/etc/systemd/system/nqrust-manager.service"]
)
def test_an_installation_of_another_installer_is_refused(used: Bench, theirs: str) -> None:
    uninstall()
    used.host.put(theirs, "x")
    refused = found(used)
    assert set(refused) == {"NQR-PRE-015"} and refused["NQR-PRE-015"].startswith(theirs.removesuffix("/bin/manager"))


@pytest.mark.parametrize("what", ["failed", "killed"])
def test_an_uninstall_that_has_not_ended_leaves_an_installation(used: Bench, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is nqr's."""

    def held(path: str) -> None:
        raise CommandFailed(("rm", path), 1, "busy") if what == "failed" else KeyboardInterrupt

    used.host.put(f"{LAYOUT.install_dir}/bin/manager", "x")
    monkeypatch.setattr(used.host, "remove", held)
    if what == "failed":
        assert uninstall().outcome == "partly_undone"
    else:
        with pytest.raises(KeyboardInterrupt):
            uninstall()
    assert found(used) == {}


def killed_uninstall(bench: Bench, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Uninstall until a file of the first step goes."""

    def held(path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench.host, "remove", held)
        with pytest.raises(KeyboardInterrupt):
            uninstall(**options)


@pytest.mark.parametrize("first", ["whole", "killed"])
def test_an_install_after_an_interrupted_uninstall_is_whole_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    bench.run(*FOLDERS, ends=first == "whole")
    bench.vm()
    killed_uninstall(bench, monkeypatch)
    assert [run.verb for run in bench.receipt.unfinished] == ["uninstall"]
    done = bench.run(*FOLDERS)
    assert done.outcome == "ok" and done.resumed is (first == "killed") and not bench.receipt.unfinished
    assert uninstall().outcome == "ok" and bench.host.exists(DISK), "what the first uninstall kept, the second one keeps, too"
    assert uninstall(purge_data=True).outcome == "ok" and not bench.host.exists(LAYOUT.data_dir) and not bench.receipt.entries


@pytest.mark.parametrize("keep", [False, True])
def test_an_install_that_fails_after_an_interrupted_uninstall_leaves_it_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    killed_uninstall(bench, monkeypatch)
    done = bench.run(*FOLDERS, Made("x", does=fails), keep=keep)
    assert [run.verb for run in bench.receipt.unfinished] == ["install" if keep else "uninstall"]
    assert done.outcome == ("failed" if keep else "rolled_back")
    assert bench.run(*FOLDERS).outcome == "ok" and not bench.receipt.unfinished and bench.host.exists(DISK)


def test_a_rollback_after_an_interrupted_uninstall_says_what_helps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    killed_uninstall(bench, monkeypatch)
    left = bench.receipt
    for _ in range(2):
        preview = rollback(dry_run=True)
        done = rollback()
        assert done.notes == preview.notes and "`nqr uninstall` finishes it; `nqr install` puts the" in done.notes[0]
    assert bench.receipt == left
    assert uninstall().outcome == "ok" and not bench.receipt.unfinished and bench.host.exists(DISK)


def test_a_rollback_of_the_install_after_it_leaves_the_uninstall_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(*FOLDERS)
    killed_uninstall(bench, monkeypatch)
    assert bench.run(*FOLDERS, File("/etc/new", "x\n")).outcome == "ok"
    assert rollback().outcome == "ok" and not bench.host.exists("/etc/new")
    assert [run.verb for run in bench.receipt.unfinished] == ["uninstall"] and bench.host.exists("/etc/app.conf")


def test_an_uninstall_that_fails_leaves_an_interrupted_install_interrupted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback would otherwise take back the first install below what is left of the second."""
    bench.run(*FOLDERS)
    bench.run(*FOLDERS, File("/etc/new", "x\n"))
    bench.store.data = b"".join(bench.store.data.splitlines(keepends=True)[:-1])  # killed before its end
    with monkeypatch.context() as patched:
        patched.setattr(bench.host, "remove", fails)
        assert uninstall(purge_data=True).outcome == "partly_undone"
    assert {entry.run for entry in bench.receipt.entries} == {run.id for run in bench.receipt.runs[:2]}
    assert [run.verb for run in bench.receipt.unfinished] == ["install"]
    assert rollback().outcome == "ok" and not bench.host.exists("/etc/new") and bench.host.exists("/etc/app.conf")
    assert uninstall(purge_data=True).outcome == "ok" and not bench.receipt.entries


def passed_over(bench: Bench, step: File) -> None:
    """Version 0.2.0 left an uninstall unfinished beside a good install. It names the interrupted install that it took over."""
    bench.run(*FOLDERS, step, ends=False)
    journal, first = bench.site().journal, bench.receipt.runs[0].id
    journal.append("run", "old-uninstall", verb="uninstall", version="", settings={}, resumes=[first])
    journal.append("run", "old-install", verb="install", version="0.2.0", settings={}, resumes=[])
    journal.append("end", "old-install", outcome="ok")


def test_an_upgrade_that_fails_takes_nothing_from_an_install_after_an_old_uninstall(bench: Bench) -> None:
    step = File("/etc/one", "x\n")
    passed_over(bench, step)
    assert bench.run(*FOLDERS, step, Made("new", does=fails)).outcome == "rolled_back"
    assert bench.host.exists("/etc/one") and bench.host.exists("/etc/app.conf")


@pytest.mark.parametrize("way", ["interrupted upgrade", "good upgrade", "no upgrade"])
def test_a_rollback_takes_nothing_from_an_install_after_an_old_uninstall(bench: Bench, way: str) -> None:
    step = File("/etc/one", "x\n")
    passed_over(bench, step)
    if way != "no upgrade":
        bench.run(*FOLDERS, step, File("/etc/new", "x\n"))
    if way == "interrupted upgrade":
        bench.store.data = b"".join(bench.store.data.splitlines(keepends=True)[:-1])  # killed before its end
    rollback()
    assert bench.host.exists("/etc/one") and bench.host.exists("/etc/app.conf") and not bench.host.exists("/etc/new")


def test_an_install_that_fails_finishes_an_interrupted_rollback(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The good upgrade that goes back is the last good install, too."""

    def files(version: int) -> tuple[File, ...]:
        return tuple(File(f"/etc/{name}", f"{name}{version}\n") for name in "abc")

    assert bench.run(*FOLDERS, *files(1)).outcome == "ok" == bench.run(*FOLDERS, *files(2)).outcome
    with monkeypatch.context() as patched:
        append, undone = Journal.append, 0

        def killed(self: Journal, type: str, *args: Any, **fields: Any) -> Any:
            nonlocal undone
            done = append(self, type, *args, **fields)
            undone += type == "undone"
            if undone == 1:
                raise KeyboardInterrupt
            return done

        patched.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            rollback()
    assert bench.run(*FOLDERS, *files(3), Made("new", does=fails)).outcome == "rolled_back"
    assert [bench.host.read_text(f"/etc/{name}") for name in "abc"] == ["a1\n", "b1\n", "c1\n"]
