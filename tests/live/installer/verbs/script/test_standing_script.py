"""The undo script that a host keeps: one file for every choice of uninstall, current with the receipt."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fakes.journal import MemoryJournalStore
from tests.live.installer.verbs.script.test_undo_script import OLD, context, entry

from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.receipt import Entry, Receipt
from nqrust.installer.engine.step import Origin
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.release.bootstrap_record import BootstrapRecord, farewell
from nqrust.installer.verbs.file.undo import undo_directory, undo_file, undo_half
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages.undo import undo_packages
from nqrust.installer.verbs.script import standing as standing_script
from nqrust.installer.verbs.script import whole as whole_script

AGAIN = "/var/lib/nqrust-microvm/undo.sh"


def render(*entries: Entry, gone: str = "gone", journal: str = "journal") -> str:
    made = context()
    made.originals.read = lambda digest: b"before\n"  # type: ignore[method-assign]
    return standing_script.render(
        made, made, entries, path=AGAIN, journal=journal, records=1, epilogue=lambda keep: f"touch {gone}\n"
    )


def sh(text: str, *options: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as the one who runs the tests, in a folder of their own."""
    assert 'if [ "$(id -u)" -ne 0 ]' in text and "\ncd / || exit 1\n" in text
    text = text.replace('if [ "$(id -u)" -ne 0 ]', "if false").replace("\ncd / || exit 1\n", "\n")
    text = text.replace("with_systemd() {", "with_systemd() { return 1; }\nnever() {").replace("LC_ALL=C\n", "LC_ALL=C.UTF-8\n")
    return subprocess.run(
        ["sh", "-s", "--", *options], input=text, capture_output=True, text=True, cwd=root, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, str]:
    """A program, VM data and a database dump; the script that takes them back."""
    for name in ("program", "data", "dump"):
        (tmp_path / name).write_text(name)
    text = render(
        entry(1, undo_file(f"{tmp_path}/program", ours_sha256=None)),
        entry(2, undo_file(f"{tmp_path}/data", ours_sha256=None, retain=Retain.data)),
        entry(3, undo_file(f"{tmp_path}/dump", ours_sha256=None, retain=Retain.database)),
    )
    return tmp_path, text


def left(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


@pytest.mark.parametrize(
    ("options", "stays"),
    [
        ((), {"data", "dump"}),
        (("--non-interactive",), {"data", "dump"}),
        (("--non-interactive", "--purge-data"), {"dump"}),
        (("--non-interactive", "--drop-database"), {"data"}),
        (("--non-interactive", "--purge-data", "--no-purge-data"), {"data", "dump"}),
        (("--non-interactive", "--purge-data", "--drop-database"), {"gone"}),
        (("--purge-data",), {"program", "data", "dump"}),  # nobody is there to ask
        (("--dry-run", "--purge-data", "--drop-database"), {"program", "data", "dump"}),
        (("--purge",), {"program", "data", "dump"}),
        (("--help",), {"program", "data", "dump"}),
    ],
    ids=lambda value: " ".join(sorted(value)) or "none",
)
def test_undo_script_removes_what_its_options_name(files: tuple[Path, str], options: tuple[str, ...], stays: set[str]) -> None:
    root, text = files
    done = sh(text, *options, root=root)
    assert left(root) == stays, done.stderr
    expected = 2 if "--purge" in options or options == ("--purge-data",) else 0
    assert done.returncode == expected, done.stderr
    if done.returncode == 0 and "gone" not in stays and "program" not in stays:
        assert f"{AGAIN} --purge-data --drop-database" in done.stdout


def test_undo_script_resumes_where_it_stopped(files: tuple[Path, str]) -> None:
    root, text = files
    sh(text, root=root)
    assert sh(text, "--non-interactive", "--purge-data", "--drop-database", root=root).returncode == 0
    assert left(root) == {"gone"}


def test_undo_script_leaves_the_folders_around_what_stays(tmp_path: Path) -> None:
    """A folder of the platform holds the copy of a database. Its record is older than those of the database and of the copy."""
    backups, data = tmp_path / "opt" / "backups", tmp_path / "srv" / "fc"
    backups.mkdir(parents=True)
    data.mkdir(parents=True)
    dump, partial = backups / "it's a.dump", backups / "a.partial"
    for file in (dump, partial, data / "disk"):
        file.write_text("x")
    entries = (
        entry(1, undo_directory(f"{tmp_path}/opt")),
        entry(2, undo_directory(f"{tmp_path}/srv")),
        entry(3, undo_directory(str(data), tree=True, retain=Retain.data)),
        entry(4, undo_directory(str(backups), tree=True)),
        entry(5, undo_file(str(dump), ours_sha256=None, retain=Retain.database)),
    )
    text = render(*entries)
    for option, stays in (("--no-purge-data", {"opt", "srv"}), ("--purge-data", {"opt"}), ("--drop-database", {"gone"})):
        done = sh(text, "--non-interactive", *(["--purge-data"] if stays == {"gone"} else []), option, root=tmp_path)
        assert done.returncode == 0 and left(tmp_path) == stays and dump.exists() == ("opt" in stays), done.stdout + done.stderr
        assert ("opt with what stays in it" in done.stdout) == ("opt" in stays), done.stdout


def test_undo_script_that_keeps_images_removes_one_that_is_half_built(tmp_path: Path) -> None:
    for name in ("whole", "half"):
        (tmp_path / name / "x").mkdir(parents=True)
    image = entry(1, undo_directory(f"{tmp_path}/whole", tree=True, retain=Retain.data), undo_half(f"{tmp_path}/half"))
    assert sh(render(image), "--dry-run", root=tmp_path).returncode == 0 and left(tmp_path) == {"whole", "half"}
    assert sh(render(image), "--non-interactive", root=tmp_path).returncode == 0 and left(tmp_path) == {"whole"}
    (tmp_path / "half").mkdir()
    text = whole_script.render(context(), (image,), retain=lambda e: True)
    assert sh(text, root=tmp_path).returncode == 0 and left(tmp_path) == {"whole"}


@pytest.mark.parametrize("database", [True, False])
def test_a_script_of_one_choice_leaves_the_folders_around_what_stays(tmp_path: Path, database: bool) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "dump").write_text("x")
    copy = entry(2, undo_file(f"{tmp_path}/opt/dump", ours_sha256=None, retain=Retain.database))
    entries = (entry(1, undo_directory(f"{tmp_path}/opt", tree=True)), copy)
    done = sh(whole_script.render(context(), entries, retain=lambda e: e is copy and database), root=tmp_path)
    assert done.returncode == 0 and (tmp_path / "opt" / "dump").exists() == database and not done.stderr, done.stderr


def test_undo_script_keeps_the_journal_of_a_run_killed_since(files: tuple[Path, str]) -> None:
    """What that run made is in the journal alone."""
    root, text = files
    (root / "journal").write_text("one record\n")
    assert "killed" not in sh(text, "--non-interactive", root=root).stderr
    (root / "journal").write_text("one record\nand another\n")
    done = sh(text, "--non-interactive", "--purge-data", "--drop-database", root=root)
    assert done.returncode == 1 and "was killed" in done.stderr and left(root) == {"journal"}


def test_undo_script_dry_run_lists_removed_and_kept_things(files: tuple[Path, str]) -> None:
    root, text = files
    said = sh(text, "--purge-data", root=root, NQR_DRY_RUN="yes").stdout.splitlines()
    assert said == ["stays: step 3", "undo: step 2", "undo: step 1", "Nothing was changed."]
    assert left(root) == {"program", "data", "dump"}


def test_undo_script_reads_the_variables_of_nqr(files: tuple[Path, str]) -> None:
    root, text = files
    sh(text, root=root, NQR_PURGE_DATA="true", NQR_NON_INTERACTIVE="1")
    assert left(root) == {"dump"}


def test_a_failure_names_the_script_that_is_still_there(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    text = render(
        entry(1, undo_directory("/proc/self/nothing"), Undo("file", {"path": "/proc/version", "ours": None, "prior": None}))
    )
    done = sh(text, "--non-interactive", root=tmp_path)
    assert done.returncode == 1 and f"run {AGAIN} again" in done.stderr


def test_undo_script_names_its_receipt() -> None:
    one = entry(1, undo_file("/a", ours_sha256=None))
    two = entry(2, undo_file("/b", ours_sha256=None))
    text = render(one, two)
    assert text.startswith(standing_script.head([one, two], 1, "touch gone\n")), (
        "as the receipt lists them, not as they are undone"
    )
    assert text.startswith("#!/bin/sh\n# Receipt: ")
    later = Entry(**{**one.__dict__, "done": True})
    assert len({standing_script.head(rows, 1, "") for rows in ([one], [later], [one, entry(2)])}) == 3
    assert standing_script.head([one], 1, "rm") != standing_script.head([one], 1, ""), "the bootstrap brought more since"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("manager", ["apt", "dnf"])
def test_undo_script_with_every_verb_and_option_passes_shellcheck(manager: str) -> None:
    made = context()
    entries = Receipt.of(Journal(MemoryJournalStore(OLD), lambda: 0.0)).entries
    kept = {"d" * 64: traces.pack(traces.NOTHING), "a" * 64: traces.pack({"paths": [], "users": [], "groups": []})}
    made.originals.keep = lambda digest, data: None  # type: ignore[method-assign]
    made.originals.read = lambda digest: kept.get(digest, b"it's\n$HOME `x`\n")  # type: ignore[method-assign]
    made.host.put("/var/lib/dpkg/info/screen.list", "/usr/bin/screen\n")  # type: ignore[attr-defined]
    packages = Entry(10_001, "r", "p", "x", "p", "packages", Origin.created, (undo_packages("apt", [], [], []),), 0.0)
    assert {e.retain for e in (*entries, packages)} == set(Retain)
    record = BootstrapRecord(manager, ("python3", "python3-minimal"))
    text = standing_script.render(
        made,
        made,
        [*entries, packages],
        path=AGAIN,
        journal="journal",
        records=1,
        epilogue=lambda keep: farewell(record, keep_packages=keep),
    )
    checked = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
