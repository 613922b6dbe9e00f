"""Files, directories, symlinks, modes and blocks."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import applied, planned, reverted, round_trip

from nqrust.host.errors import NoSpace
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepConflict, StepFailed
from nqrust.installer.engine.step import Conflict, Needed, Origin, Satisfied
from nqrust.installer.engine.verb import Kept, Reverted
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.mode import Mode
from nqrust.installer.verbs.file.symlink import Symlink


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


def test_new_file_comes_and_goes(host: FakeHost) -> None:
    step = File("/etc/new.conf", "a\nb\n", 0o640)
    assert planned(host, step)[-2:] == ("+a", "+b")
    assert round_trip(host, step).origin is Origin.created


def test_changed_file_gets_its_content_mode_and_attributes_back(host: FakeHost) -> None:
    host.put("/etc/motd", "hello\n", mode=0o600, xattrs={"user.note": b"x"})
    step = File("/etc/motd", "welcome\n", 0o644)
    assert "-hello" in planned(host, step) and "+welcome" in planned(host, step)
    assert round_trip(host, step).origin is Origin.modified
    assert host.xattrs("/etc/motd") == {"user.note": b"x"}


def test_identical_file_is_adopted_and_nothing_is_journaled(host: FakeHost) -> None:
    host.put("/etc/same", "x\n")
    assert isinstance(File("/etc/same", "x\n").inspect(host), Satisfied)


def test_mode_alone_does_not_rewrite_the_file(host: FakeHost) -> None:
    host.put("/etc/same", "x\n", mode=0o666)
    inode = host.stat("/etc/same").inode  # type: ignore[union-attr]
    prepared, records = applied(host, File("/etc/same", "x\n", 0o640))
    assert host.stat("/etc/same").inode == inode  # type: ignore[union-attr]
    reverted(host, records)
    assert host.stat("/etc/same").mode == 0o666  # type: ignore[union-attr]
    assert [undo.verb for undo in prepared.undo] == ["mode"]


def test_edited_file_survives_uninstall(host: FakeHost) -> None:
    _, records = applied(host, File("/etc/new.conf", "ours\n"))
    host.put("/etc/new.conf", "the user's\n")
    outcome = reverted(host, records)[0]
    assert isinstance(outcome, Kept) and host.read_text(outcome.where) == "the user's\n"


@pytest.mark.parametrize("content", [Secret("hunter2\n"), "hunter2\n"])
def test_secret_shows_neither_in_plan_nor_in_description(host: FakeHost, content: Secret | str) -> None:
    step = File("/etc/s", content, 0o600, secret=True)
    told = [*planned(host, step), step.describe(), repr(step)]
    host.put("/etc/s", "older-password\n")
    told += planned(host, step)
    assert "hunter2" not in "".join(told) and "older-password" not in "".join(told)
    step.apply(host)
    assert host.read_text("/etc/s") == "hunter2\n"


def test_owner_that_does_not_exist_yet_can_be_planned(host: FakeHost) -> None:
    host.put("/etc/f", "x\n")
    diff = planned(host, File("/etc/f", "x\n", 0o640, "root", "nqrust"))
    assert diff == ("/etc/f: 0644 root:root -> 0640 root:nqrust",)


def test_existing_content_is_kept_where_asked(host: FakeHost) -> None:
    host.put("/etc/token", "first\n", mode=0o600)
    assert isinstance(File("/etc/token", "second\n", 0o600, keep_existing=True).inspect(host), Satisfied)


def test_binary_and_long_diffs_stay_readable(host: FakeHost) -> None:
    host.put("/etc/b", b"\x00\xff")
    assert planned(host, File("/etc/b", b"\x00\xfe\x01")) == ("/etc/b: binary content differs (2 -> 3 bytes)",)
    assert len(planned(host, File("/etc/long", "x\n" * 5000))) < 410


def test_missing_final_newline_is_a_difference(host: FakeHost) -> None:
    host.put("/etc/n", "x")
    assert planned(host, File("/etc/n", "x\n"))


def test_missing_folder_is_an_error_with_a_cure(host: FakeHost) -> None:
    with pytest.raises(StepFailed) as caught:
        File("/etc/no/such/file", "x").apply(host)
    assert caught.value.code == "NQR-CFG-102" and "/etc/no/such" in caught.value.cure


def test_symlink_in_place_of_a_file_is_a_conflict(host: FakeHost) -> None:
    host.put_symlink("/etc/passwd", "/etc/f")
    found = File("/etc/f", "x").inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-CFG-101"


def test_disk_full_leaves_the_old_file(host: FakeHost) -> None:
    host.put("/etc/motd", "hello\n")
    host.fail_at(1, NoSpace("/etc/motd", "the file system is full"))
    with pytest.raises(NoSpace):
        File("/etc/motd", "welcome\n").apply(host)
    assert host.read_text("/etc/motd") == "hello\n"


def test_directory_comes_and_goes(host: FakeHost) -> None:
    assert round_trip(host, Directory("/srv/new", 0o750)).origin is Origin.created


def test_directory_with_foreign_files_stays(host: FakeHost) -> None:
    _, records = applied(host, Directory("/srv/new"))
    host.put("/srv/new/diary", "dear")
    assert isinstance(reverted(host, records)[0], Kept) and host.exists("/srv/new/diary")


def test_existing_directory_is_adopted_unchanged(host: FakeHost) -> None:
    host.put_directory("/srv/images", mode=0o777)
    assert isinstance(Directory("/srv/images", 0o755).inspect(host), Satisfied)
    assert round_trip(host, Directory("/srv/images", 0o755, adopt_modes=True)).origin is Origin.modified


def test_directory_does_not_make_its_parents(host: FakeHost) -> None:
    with pytest.raises(StepFailed, match="NQR-CFG-102"):
        Directory("/srv/a/b").apply(host)


def test_file_in_place_of_a_directory_is_a_conflict(host: FakeHost) -> None:
    host.put("/srv/x", "")
    assert isinstance(Directory("/srv/x").inspect(host), Conflict)


def test_symlink_round_trips(host: FakeHost) -> None:
    assert round_trip(host, Symlink("/usr/local/bin/nqr", "/opt/nqr")).origin is Origin.created
    host.put_symlink("/old", "/usr/local/bin/nqr")
    assert round_trip(host, Symlink("/usr/local/bin/nqr", "/opt/nqr")).origin is Origin.modified


def test_symlink_of_another_is_left_where_asked(host: FakeHost) -> None:
    host.put_symlink("/old", "/usr/local/bin/nqr")
    assert isinstance(Symlink("/usr/local/bin/nqr", "/opt/nqr", replace=False).inspect(host), Conflict)


def test_mode_of_a_device_round_trips(host: FakeHost) -> None:
    host.put_device("/dev/kvm", mode=0o600)
    host.add_group("kvm", 104)
    assert round_trip(host, Mode("/dev/kvm", 0o660, "root", "kvm")).origin is Origin.modified
    assert isinstance(Mode("/dev/none", 0o660, optional=True).inspect(host), Satisfied)


@pytest.mark.parametrize(
    "before",
    ["", "a=1\n", "a=1\nno newline", "# BEGIN nqrust-microvm other\nx\n# END nqrust-microvm other\n"],
)
@pytest.mark.parametrize("at_top", [False, True])
def test_block_is_added_and_removed_without_other_changes(host: FakeHost, before: str, at_top: bool) -> None:
    host.put("/etc/shared", before, mode=0o600)
    step = Block("/etc/shared", "test", ("b=2",), at_top=at_top)
    _, records = applied(host, step)
    text = host.read_text("/etc/shared")
    assert text.index("b=2") < len("# BEGIN nqrust-microvm test\nb") or not at_top
    assert host.stat("/etc/shared").mode == 0o600  # type: ignore[union-attr]
    host.put("/etc/shared", text + "the user's line\n", mode=0o600)
    reverted(host, records)
    left = host.read_text("/etc/shared")
    assert "b=2" not in left and left.endswith("the user's line\n") and left.startswith(before.rstrip("\n"))


@pytest.mark.parametrize("at_top", [False, True])
def test_block_keeps_every_byte_of_a_file_that_is_not_utf8(host: FakeHost, at_top: bool) -> None:
    before = "# café\x85\nhost all alice ::1/128 md5  # für Ålice\n".encode("latin-1")
    host.put("/etc/shared", before, mode=0o640)
    _, records = applied(host, Block("/etc/shared", "test", ("b=2",), at_top=at_top))
    assert before in host.read_bytes("/etc/shared")
    reverted(host, records)
    assert host.read_bytes("/etc/shared") == before


def test_block_never_takes_the_place_of_a_link(host: FakeHost) -> None:
    host.put("/etc/real", "a=1\n", mode=0o640)
    host.put_symlink("/etc/real", "/etc/shared")
    step, before = Block("/etc/shared", "test", ("b=2",)), host.state()
    assert isinstance(step.inspect(host), Conflict)
    with pytest.raises(StepConflict) as caught:
        step.apply(host)
    assert caught.value.code == "NQR-CFG-101" and host.state() == before
    (outcome,) = reverted(host, list(step.prepare(host).undo))
    assert isinstance(outcome, Kept) and host.state() == before


def test_block_replaces_its_older_version(host: FakeHost) -> None:
    applied(host, Block("/etc/shared", "test", ("b=2",)))
    applied(host, Block("/etc/shared", "test", ("b=3",)))
    assert host.read_text("/etc/shared") == "# BEGIN nqrust-microvm test\nb=3\n# END nqrust-microvm test\n"


@pytest.mark.parametrize("at_top", [False, True])
def test_a_block_that_was_changed_gets_its_earlier_text_again(host: FakeHost, at_top: bool) -> None:
    """At its present place, even if somebody wrote around it since."""
    host.put("/etc/shared", "a=1\n")
    _, first = applied(host, Block("/etc/shared", "test", ("b=2", r"c='\n'"), at_top=at_top))
    earlier = host.read_text("/etc/shared").replace("# END nqrust-microvm test\n", " # END nqrust-microvm test \n") + "d=4\n"
    host.put("/etc/shared", earlier)
    _, records = applied(host, Block("/etc/shared", "test", ("b=3",), at_top=at_top))
    assert "b=2" not in host.read_text("/etc/shared")
    (outcome,) = reverted(host, records)
    assert isinstance(outcome, Reverted) and host.read_text("/etc/shared") == earlier
    reverted(host, records)
    assert host.read_text("/etc/shared") == earlier
    reverted(host, first)
    assert host.read_text("/etc/shared") == "a=1\nd=4\n"
    assert reverted(host, records) == [Reverted("the block is gone")]


def test_file_made_for_a_block_goes_with_it(host: FakeHost) -> None:
    assert round_trip(host, Block("/etc/fresh", "test", ("b=2",))).origin is Origin.created


def test_block_without_its_end_is_a_conflict(host: FakeHost) -> None:
    host.put("/etc/shared", "# BEGIN nqrust-microvm test\nb=2\n")
    found = Block("/etc/shared", "test", ("b=2",)).inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-CFG-105"


@pytest.mark.parametrize(
    "step",
    [File("/etc/x", "1\n"), Directory("/etc/d"), Symlink("/etc/l", "/x"), Block("/etc/b", "n", ("1",))],
)
def test_interrupted_file_step_is_satisfied_or_needed(host: FakeHost, step: File) -> None:
    host.fail_at(1, KeyboardInterrupt(), after=True)
    with pytest.raises(KeyboardInterrupt):
        step.apply(host)
    assert isinstance(step.inspect(host), Satisfied | Needed)
