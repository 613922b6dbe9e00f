"""No rollback takes along what users have on the host: VMs, volumes, images, and what a database holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.installer.operations.a_used_platform import (
    DISK,
    DUMP,
    FOLDERS,
    LAYOUT,
    Bench,
    Made,
    bench,
    fails,
    interrupted,
    rollback,
    uninstall,
)

from nqrust.host.errors import PathError
from nqrust.installer.engine.step import Conflict
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.account.undo import undo_group, undo_user
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.undo import undo_directory, undo_file, undo_half

__all__ = ["bench"]


@pytest.mark.parametrize("ends", [True, False])
def test_a_rollback_refuses_to_remove_vms(bench: Bench, ends: bool) -> None:
    bench.run(*FOLDERS, ends=ends)
    bench.vm()
    before = bench.store.data
    for options in ({}, {"dry_run": True}):
        done = rollback(**options)
        assert done.failure is not None and done.failure.code == "NQR-USE-030" and done.exit_code == 2
        assert "1 VM in /srv/fc/vms" in done.failure.what and "nqr uninstall" in done.failure.cure
    assert bench.host.exists(DISK) and bench.host.exists("/etc/app.conf") and bench.store.data == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"{LAYOUT.volumes_dir}/data1.raw", "1 volume in /srv/fc/volumes"),
        (f"{LAYOUT.image_dir}/debian-12/manifest.json", "1 image in /srv/images"),
        (f"{LAYOUT.vms_dir}/b/disk.ext4", "1 VM in /srv/fc/vms"),
    ],
)
def test_a_rollback_refuses_to_remove_what_users_made(bench: Bench, path: str, told: str) -> None:
    """A folder of a VM whose record cannot be read may have a disk."""
    bench.run(*FOLDERS)
    if not bench.host.exists(path.rpartition("/")[0]):
        bench.host.put_directory(path.rpartition("/")[0])
    bench.host.put(path, "x")
    done = rollback()
    assert done.failure is not None and told in done.failure.what and bench.host.exists(path)


def test_a_folder_that_cannot_be_read_may_hold_something(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(*FOLDERS)
    listed = bench.host.listdir

    def broken(path: str) -> list[str]:
        if path == LAYOUT.vms_dir:
            raise PathError(path, "Input/output error", 5)
        return list(listed(path))

    monkeypatch.setattr(bench.host, "listdir", broken)
    done = rollback()
    assert done.failure is not None and f"what {LAYOUT.vms_dir} holds, which cannot be read" in done.failure.what


@pytest.mark.parametrize("ends", [True, False])
def test_a_rollback_of_a_platform_that_nobody_used_leaves_nothing(bench: Bench, ends: bool) -> None:
    """What nqr puts there is nobody's: its image, the VM of its proof, and a folder that it had just begun."""
    bench.run(*FOLDERS, ends=ends)
    bench.vm("nqr-canary-123-456")
    bench.host.put_directory(f"{LAYOUT.vms_dir}/c")
    bench.host.put(f"{LAYOUT.image_dir}/tiny/manifest.json", "{}")
    done = rollback()
    assert done.outcome == "ok", done.failure
    assert not bench.host.exists(LAYOUT.data_dir) and not bench.host.exists(LAYOUT.image_dir) and not bench.receipt.entries


def test_a_rollback_after_an_uninstall_has_nothing_to_undo(bench: Bench) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    assert uninstall().outcome == "ok" and bench.host.exists(DISK)
    done = rollback()
    assert done.notes[0] == "There is nothing to roll back." and bench.host.exists(DISK)
    assert uninstall(purge_data=True).outcome == "ok" and not bench.host.exists(LAYOUT.data_dir)


def test_a_second_rollback_does_not_undo_the_install_before(bench: Bench) -> None:
    """A script may run it again, and the first one undid the upgrade."""
    bench.run(*FOLDERS)
    bench.vm()
    bench.run(*FOLDERS[1:], File("/etc/app.conf", "two\n"))
    assert rollback().outcome == "ok" and bench.host.read_text("/etc/app.conf") == "one\n"
    again = rollback()
    assert again.failure is not None and again.failure.code == "NQR-USE-030" and bench.host.exists(DISK)


@pytest.mark.parametrize("does", [fails, interrupted])
@pytest.mark.parametrize("first", ["killed", "kept"])
def test_a_failure_takes_back_this_run_and_nothing_that_users_made_before(
    bench: Bench, does: Callable[[Any], object], first: str
) -> None:
    """The first install never ended, but it works, and people have used it since."""
    if first == "killed":
        bench.run(*FOLDERS, ends=False)
    else:
        assert bench.run(*FOLDERS, Made("x", does=fails), keep=True).outcome == "failed"
    bench.vm()
    done = bench.run(*FOLDERS[1:], File("/etc/app.conf", "two\n"), File("/etc/new", "x\n"), Made("x", does=does))
    assert done.resumed and done.outcome == "rolled_back"
    assert bench.host.exists(DISK) and bench.host.read_text("/etc/app.conf") == "one\n" and not bench.host.exists("/etc/new")
    assert any("Earlier runs stay, because users have 1 VM in /srv/fc/vms." in text for text in bench.said)


def test_a_conflict_of_a_resumed_run_leaves_the_vms(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    bench.vm()
    held = Made("port", found=Conflict("NQR-PRE-040", "Port 1 is held.", "Free it."))
    assert bench.run(*FOLDERS, held).outcome == "rolled_back" and bench.host.exists(DISK)


def test_a_failure_takes_back_everything_while_nobody_has_used_it(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    assert bench.run(*FOLDERS, Made("x", does=fails)).outcome == "rolled_back"
    assert not bench.host.exists(LAYOUT.data_dir) and not bench.host.exists("/etc/app.conf") and not bench.receipt.entries


def test_a_vm_of_the_very_run_that_fails_stays(bench: Bench) -> None:
    """The services serve before the proofs have passed."""
    assert bench.run(*FOLDERS, Made("x", does=lambda host: (bench.vm(), fails(host)))).outcome == "rolled_back"
    assert bench.host.exists(DISK) and not bench.host.exists("/etc/app.conf")
    assert uninstall(purge_data=True).outcome == "ok" and not bench.host.exists(LAYOUT.data_dir) and not bench.receipt.entries


def test_a_failed_upgrade_keeps_the_copy_of_the_database(bench: Bench) -> None:
    bench.run(*FOLDERS)
    copied = Made(
        "migrate", (undo_file("/etc/marker", ours_sha256=None), undo_file(DUMP, ours_sha256=None, retain=Retain.database)),
        does=lambda host: (host.put(DUMP, "dump"), host.put("/etc/marker", "2")),
    )  # fmt: skip
    assert bench.run(*FOLDERS, copied, Made("x", does=fails)).outcome == "rolled_back"
    assert bench.host.exists(DUMP) and not bench.host.exists("/etc/marker")
    assert uninstall(purge_data=True).outcome == "ok" and bench.host.exists(DUMP)
    assert uninstall(purge_data=True, drop_database=True).outcome == "ok" and not bench.host.exists(DUMP)


def test_a_rollback_keeps_the_copy_of_the_database_and_says_so(bench: Bench) -> None:
    bench.run(*FOLDERS)
    copied = Made(
        "migrate", (undo_file(DUMP, ours_sha256=None, retain=Retain.database),), does=lambda host: host.put(DUMP, "dump")
    )
    bench.run(*FOLDERS, copied)
    told = f"{DUMP}, the copy of the database from before its migration, stays"
    preview = rollback(dry_run=True).preview
    assert preview is not None and [stay.why for stay in preview.stays] == [told] and not preview.changes
    done = rollback()
    assert done.outcome == "ok" and f"{told}." in done.notes and bench.host.exists(DUMP)


def test_the_managers_user_stays_with_the_images_that_are_its(bench: Bench) -> None:
    bench.host.add_user("nqrust", 998)
    for program, accounts in (("userdel", bench.host.users), ("groupdel", bench.host.groups)):
        bench.host.on(program, prefix=True, answer=lambda host, cmd, accounts=accounts: accounts.pop(cmd.argv[-1]) and None)
    bench.host.on("usermod", prefix=True, answer="")
    bench.run(
        *FOLDERS, Made("group", (undo_group("nqrust"),)), Made("user", (undo_user("nqrust"),))
    )  # in the order of the phases
    bench.host.put(f"{LAYOUT.image_dir}/mine/rootfs.ext4", "x", owner="nqrust")
    preview = uninstall(dry_run=True).preview
    assert preview is not None and "group nqrust stays with the user nqrust" in [stay.why for stay in preview.stays]
    for options in ({}, {"drop_database": True}):
        assert uninstall(**options).outcome == "ok" and {"nqrust"} <= bench.host.users.keys() & bench.host.groups.keys()
    assert uninstall(purge_data=True).outcome == "ok" and not bench.receipt.entries
    assert "nqrust" not in bench.host.users.keys() | bench.host.groups.keys()


def test_an_uninstall_that_keeps_images_removes_one_that_is_half_built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    half = f"{LAYOUT.image_dir}/.base.building"
    image = undo_directory(f"{LAYOUT.image_dir}/base", tree=True, retain=Retain.data)
    bench.run(*FOLDERS, Made("image", (image, undo_half(half))), ends=False)
    for name in ("base", ".base.building"):
        bench.host.put(f"{LAYOUT.image_dir}/{name}/rootfs.ext4", "x")
    preview = uninstall(dry_run=True).preview
    assert preview is not None and f"remove {half}/ with all in it" in [
        line for phase in preview.phases for step in phase.changes for line in step.diff
    ]
    with monkeypatch.context() as patched:
        patched.setattr(bench.host, "remove_tree", lambda path: fails(bench.host))
        done = uninstall()
    assert done.failure is not None and "image: " in done.failure.what and bench.host.exists(half)
    assert uninstall().outcome == "ok"
    assert not bench.host.exists(half) and bench.host.exists(f"{LAYOUT.image_dir}/base/rootfs.ext4")
    assert uninstall(purge_data=True).outcome == "ok" and not bench.receipt.entries


def test_settings_that_this_nqr_cannot_read_lose_no_vm(bench: Bench) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    bench.store.data = bench.store.data.replace(b'"settings":{', b'"settings":{"of_another_version":1,')
    done = rollback()
    assert done.failure is not None and f"what {LAYOUT.data_dir} holds" in done.failure.what and bench.host.exists(DISK)


def test_a_run_that_went_back_alone_leaves_the_other_interrupted(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    bench.vm()
    bench.run(*FOLDERS, Made("x", does=fails))
    assert [run.verb for run in bench.receipt.unfinished] == ["install"]
    assert bench.run(*FOLDERS).resumed and not bench.receipt.unfinished
