"""The copy of a database from before its migration goes with the database alone, and the folders around it go then too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.operations.a_used_platform import (
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

from nqrust.contract import paths
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.undo import undo_file

__all__ = ["bench"]

WITH_ALL = {"purge_data": True, "drop_database": True}


def copied(does: Any = lambda host: None) -> Made:
    """The records of a migration, as every version of nqr writes them."""
    undo = (undo_file(f"{paths.STATE_DIR}/migrated", ours_sha256=None), undo_file(DUMP, ours_sha256=None, retain=Retain.database))
    return Made("migrate", undo, does=lambda host: (host.put(DUMP, "dump"), does(host)))


def nothing_is_left_after_the_database_goes(bench: Bench) -> None:
    assert bench.host.exists(DUMP)
    assert uninstall().outcome == "ok" and bench.host.exists(DUMP)
    assert uninstall(purge_data=True).outcome == "ok" and bench.host.exists(DUMP)
    assert uninstall(drop_database=True).outcome == "ok" and not bench.receipt.entries
    left = (LAYOUT.install_dir, LAYOUT.data_dir, LAYOUT.image_dir, paths.STATE_DIR, "/etc/app.conf")
    assert [path for path in left if bench.host.exists(path)] == []


@pytest.mark.parametrize("last", [copied(fails), Made("x", does=fails)], ids=["migration", "later"])
def test_a_run_that_makes_the_folder_and_fails_leaves_the_copy(bench: Bench, last: Made) -> None:
    """As after an uninstall that kept the database: this run makes the folders anew."""
    steps = (last,) if last.id == "migrate" else (copied(), last)
    assert bench.run(*FOLDERS, *steps).outcome == "rolled_back"
    assert bench.host.exists(DUMP) and not bench.host.exists("/etc/app.conf") and not bench.receipt.installed
    nothing_is_left_after_the_database_goes(bench)


def test_a_rollback_of_the_run_that_made_the_folder_leaves_the_copy(bench: Bench) -> None:
    bench.run(*FOLDERS, copied())
    preview = rollback(dry_run=True).preview
    assert preview is not None
    assert [stay.why for stay in preview.stays] == [
        f"{LAYOUT.backups_dir} stays, because {DUMP} does",
        f"{LAYOUT.install_dir} stays, because {DUMP} does",
        f"{DUMP}, the copy of the database from before its migration, stays",
    ]
    assert all(LAYOUT.install_dir not in line for phase in preview.phases for step in phase.changes for line in step.diff)
    assert rollback().outcome == "ok"
    assert bench.host.exists(DUMP) and not bench.host.exists("/etc/app.conf") and not bench.host.exists(LAYOUT.data_dir)
    assert rollback().notes[0] == "There is nothing to roll back."
    nothing_is_left_after_the_database_goes(bench)


def test_an_uninstall_that_keeps_the_database_leaves_the_copy(bench: Bench) -> None:
    bench.run(*FOLDERS, copied())
    preview = uninstall(dry_run=True, purge_data=True).preview
    assert preview is not None
    assert f"{LAYOUT.backups_dir} stays, because {DUMP} does" in [stay.why for stay in preview.stays]
    nothing_is_left_after_the_database_goes(bench)


def test_the_copy_survives_an_install_after_that_and_its_rollback(bench: Bench) -> None:
    bench.run(*FOLDERS, copied())
    uninstall()
    assert bench.run(*FOLDERS, Directory(f"{LAYOUT.install_dir}/bin")).outcome == "ok"
    assert rollback().outcome == "ok" and not bench.host.exists(f"{LAYOUT.install_dir}/bin")
    nothing_is_left_after_the_database_goes(bench)


def test_a_copy_that_somebody_removed_holds_no_folder(bench: Bench) -> None:
    bench.run(*FOLDERS, copied())
    bench.host.remove(DUMP)
    assert uninstall().outcome == "ok" and not bench.host.exists(LAYOUT.install_dir)
    assert uninstall(**WITH_ALL).outcome == "ok" and not bench.receipt.entries


def test_a_folder_above_kept_data_goes_with_it(bench: Bench) -> None:
    """The uninstall that kept the data forgot such a folder, and it was left for good."""
    bench.run(File("/etc/app.conf", "one\n"), Directory("/srv/vm"), Directory("/srv/vm/fc", tree=True, retain=Retain.data))
    assert uninstall().outcome == "ok" and bench.host.exists("/srv/vm/fc")
    assert uninstall(**WITH_ALL).outcome == "ok" and not bench.host.exists("/srv/vm") and not bench.receipt.entries


def test_data_around_the_copy_wait_for_the_database(bench: Bench) -> None:
    """INSTALL_DIR may be in DATA_DIR."""
    around = Directory("/opt", tree=True, retain=Retain.data)
    bench.host.rmdir("/opt")
    bench.run(around, *FOLDERS, copied())
    assert uninstall(purge_data=True).outcome == "ok" and bench.host.exists(DUMP)
    assert uninstall(**WITH_ALL).outcome == "ok" and not bench.host.exists("/opt") and not bench.receipt.entries
