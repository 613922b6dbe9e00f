"""Each flag of a run has a row that names its effect, and a proof, for each verb that takes it. So has each option of the
other commands that work on this host."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.installer.effects.a_bench import DATA, DATABASE, FILE, PACKAGES, Bench, bench
from tests.unit.installer.rotation.rotating import FakeManager

from nqrust.contract import paths
from nqrust.installer.engine.events import Proof
from nqrust.installer.operations import proving
from nqrust.installer.rehearsal import operation
from nqrust.installer.rehearsed import Rehearsal
from nqrust.installer.request import Summary
from nqrust.installer.settings.options import RUN_FLAGS, Form

__all__ = ["bench"]
REMOVING = ("uninstall", "rollback")


@dataclass(frozen=True)
class Row:
    flag: str
    verbs: tuple[str, ...]
    effect: str
    proof: Callable[[Bench, str], None]


def words(verb: str) -> tuple[str, ...]:
    return {"phase": ("phase", "run", "config"), "config": ("config", "show")}.get(verb, (verb,))


def ready(it: Bench, verb: str) -> None:
    """Prepare the object of the verb."""
    if verb == "rotate":
        assert it.nqr("install") == 0
        it.manager = FakeManager(it.host)
    if verb in REMOVING:
        assert it.nqr("install") == 0 and it.has(FILE)


def changed(it: Bench, verb: str) -> bool:
    if verb == "rotate":
        return bool(it.manager.begun)
    return it.has(FILE) != (verb in REMOVING)


def config(it: Bench, verb: str) -> None:
    file = it.logs.parent / "c.yaml"
    file.write_text("mode: minimal\n")
    assert it.nqr(*words(verb), "--config", str(file)) == 0
    if verb == "config":
        assert f"{file}, line 1" in it.out
    elif verb == "plan":
        assert "      +minimal" in it.out
    else:
        assert it.host.read_text(FILE) == "minimal\n"
    assert it.nqr("config", "show") == 0 and "minimal" not in it.out.splitlines()[0]


def non_interactive(it: Bench, verb: str) -> None:
    ready(it, verb)
    assert it.nqr(*words(verb), answer="n") == 0 and not changed(it, verb)
    assert "[y/N]" in it.out and it.host.mutations == []
    assert it.nqr(*words(verb), "--non-interactive", answer="n") == 0 and changed(it, verb)
    assert "[y/N]" not in it.out


def dry_run(it: Bench, verb: str) -> None:
    ready(it, verb)
    before = it.store.data
    assert it.nqr(*words(verb), "--dry-run", answer="y") == 0
    assert it.host.mutations == [] and it.store.data == before and not changed(it, verb)
    assert (FILE if verb != "rotate" else "replace the tokens") in it.out and "[y/N]" not in it.out
    assert it.nqr(*words(verb)) == 0 and changed(it, verb)


def rehearse(it: Bench, verb: str) -> None:
    it.patch.setattr(operation, "rehearse", lambda *_, **__: Summary("ok", 0, notes=("in a clone",)))
    assert it.nqr(verb, "--rehearse") == 0
    assert "in a clone" in it.out and it.host.mutations == []
    assert it.nqr(verb) == 0 and "in a clone" not in it.out


def report(it: Bench, verb: str) -> None:
    measured = Rehearsal(1.0, 1.0, 1, False, (), (), ())
    it.patch.setattr(operation, "rehearse", lambda *_, **__: Summary("ok", 0, rehearsal=measured))
    file = it.logs.parent / "report.json"
    assert it.nqr(verb, "--rehearse", "--report", str(file)) == 0
    assert json.loads(file.read_text())["rehearsal"]["predicted"] == 1 and file.stat().st_mode & 0o777 == 0o600


def on_failure(it: Bench, verb: str) -> None:
    it.blocked = True
    assert it.nqr(*words(verb), "--on-failure", "keep") == 1 and it.has(FILE)
    assert it.nqr("rollback") == 0 and not it.has(FILE)
    assert it.nqr(*words(verb), "--on-failure", "rollback") == 5 and not it.has(FILE)


def ignore_preflight(it: Bench, verb: str) -> None:
    it.small = True
    assert it.nqr(*words(verb)) == 3 and "NQR-PRE-005" in it.err
    assert it.nqr(*words(verb), "--ignore-preflight", "NQR-PRE-004") == 3, "another code ignores nothing"
    assert it.nqr(*words(verb), "--ignore-preflight", "NQR-PRE-005") == 0 and "NQR-PRE-005" in it.out


def allow_downgrade(it: Bench, verb: str) -> None:
    assert it.nqr("install") == 0
    it.host.put_directory("/opt/nqrust-microvm")
    it.host.symlink("releases/9.0.0", "/opt/nqrust-microvm/current")
    assert it.nqr(*words(verb)) == 3 and "NQR-REL-033" in it.err and it.host.mutations == []
    assert it.nqr(*words(verb), "--ignore-preflight", "NQR-REL-033") == 3
    assert it.nqr(*words(verb), "--allow-downgrade") == 0 and "NQR-REL-033" in it.out and "9.0.0" in it.out


def keeps(flag: str, path: str, *, removes: bool) -> Callable[[Bench, str], None]:
    def proof(it: Bench, verb: str) -> None:
        ready(it, verb)
        assert it.nqr(verb, "--non-interactive", flag) == 0
        assert it.has(path) != removes and not it.has(FILE)
        ready(it, verb)
        assert it.nqr(verb, "--non-interactive") == 0 and it.has(path) == removes

    return proof


def output(it: Bench, verb: str) -> None:
    ready(it, verb)
    it.nqr(*words(verb), "--output", "json")
    lines = [json.loads(line) for line in it.out.splitlines()]
    assert lines[-1]["type"] == "summary" and [line["type"] for line in lines].count("summary") == 1
    ready(it, verb)
    it.nqr(*words(verb), "--output", "text")
    assert not it.out.startswith("{") and it.out + it.err


def log_level(it: Bench, verb: str) -> None:
    said = {}
    for level in ("debug", "info", "warning", "error"):
        ready(it, verb)
        for old in it.logs.glob("*.log"):
            old.unlink()
        it.blocked = verb not in REMOVING
        if verb == "rotate":
            it.manager.stuck = ("kvm8",)
        it.nqr(*words(verb), "--log-level", level)
        (log,) = it.logs.glob("*.log")
        said[level] = log.read_text()
        it.blocked = False
        it.host.put_directory(paths.STATE_DIR)  # an uninstall that leaves nothing forgets the journal in it
        assert it.nqr("uninstall", "--non-interactive", "--purge-data", "--drop-database") == 0
    assert all("step    " in said[level] for level in ("debug", "info"))
    if verb == "rotate":
        assert all(("phase   database" in said[level]) is (level in ("debug", "info")) for level in said)
        assert "failed" in said["error"]
        return
    assert all("step    file:/etc/of-nqr" not in said[level] for level in ("warning", "error"))
    if verb not in REMOVING:
        assert "warning " in said["warning"] and "warning " not in said["error"] and "failed" in said["error"]


CHANGING = ("install", "phase", "rollback", "rotate", "uninstall")
ROWS = (
    Row("--config", ("config", "install", "phase", "plan"), "the file's settings are taken, and named as their source", config),
    Row("--non-interactive", CHANGING, "no question on a terminal", non_interactive),
    Row("--dry-run", CHANGING, "the preview and no change", dry_run),
    Row("--rehearse", ("install",), "the clone is measured and this host left alone", rehearse),
    Row("--report", ("install",), "a JSON file, mode 0600", report),
    Row("--on-failure", ("install", "phase"), "exit 1 with what was done, or exit 5 without it", on_failure),
    Row("--ignore-preflight", ("install", "phase", "plan"), "exit 0 and a warning instead of exit 3", ignore_preflight),
    Row("--allow-downgrade", ("install", "phase", "plan"), "a warning instead of exit 3 for an older release", allow_downgrade),
    Row("--purge-data", ("uninstall",), "data goes", keeps("--purge-data", DATA, removes=True)),
    Row("--drop-database", ("uninstall",), "the database goes", keeps("--drop-database", DATABASE, removes=True)),
    Row("--keep-packages", ("uninstall",), "packages stay", keeps("--keep-packages", PACKAGES, removes=False)),
    Row("--output", (*CHANGING, "plan", "verify"), "JSON lines that end in one summary", output),
    Row("--log-level", CHANGING, "lines below that severity are not in the log", log_level),
)
CASES = [(row, verb) for row in ROWS for verb in row.verbs]


def test_the_table_is_the_registry() -> None:
    assert {(row.flag, verb) for row, verb in CASES} == {(flag.flag, verb) for flag in RUN_FLAGS for verb in flag.verbs}
    assert len({row.flag for row in ROWS}) == len(ROWS) and all(row.effect for row in ROWS)


@pytest.mark.parametrize(("row", "verb"), CASES, ids=[f"{verb} {row.flag}" for row, verb in CASES])
def test_a_flag_has_its_effect(row: Row, verb: str, bench: Bench) -> None:
    row.proof(bench, verb)


@pytest.mark.parametrize("flag", [flag for flag in RUN_FLAGS if flag.off], ids=lambda flag: flag.flag)
def test_negative_flag_wins_over_the_variable(flag: object, bench: Bench) -> None:
    from nqrust.cli.install.flags import run_value
    from nqrust.installer.settings.options import RunFlag

    assert isinstance(flag, RunFlag)
    assert run_value({flag.parameter: False}, flag.parameter, {flag.variable: "yes"}) is False
    assert run_value({}, flag.parameter, {flag.variable: "yes"}) is True


@pytest.mark.parametrize("flag", RUN_FLAGS, ids=lambda flag: flag.flag)
def test_the_variable_says_the_same_as_the_flag(flag: object) -> None:
    from nqrust.cli.install.flags import run_value
    from nqrust.installer.settings.options import RunFlag

    assert isinstance(flag, RunFlag)
    text = "1" if flag.form is Form.boolean else flag.choices[0] if flag.choices else "some-word"
    given = True if flag.form is Form.boolean else [text] if flag.repeatable else text
    assert run_value({}, flag.parameter, {flag.variable: text}) == run_value({flag.parameter: given}, flag.parameter, {})
    assert run_value({}, flag.parameter, {}) in (None, False, [])


def test_a_variable_of_a_flag_counts_only_where_the_flag_does(bench: Bench, tmp_path: Path) -> None:
    bench.patch.setenv("NQR_LOG_LEVEL", "no such level")
    assert bench.nqr("plan") == 0
    assert bench.nqr("install") == 2 and "NQR_LOG_LEVEL" in bench.err


def test_a_dry_run_of_the_phases_without_steps_boots_nothing(bench: Bench) -> None:
    bench.patch.setattr(proving, "prove", lambda *_, **__: pytest.fail("a test VM was booted"))
    assert bench.nqr("phase", "run", "verify", "--dry-run") == 0 and "boot a test VM" in bench.out
    assert bench.nqr("phase", "run", "preflight", "--dry-run") == 0 and bench.host.mutations == []


def test_a_phase_that_proves_fails_when_a_hop_fails(bench: Bench) -> None:
    bench.patch.setattr(proving, "prove", lambda *_, **__: (Proof("bridge", "failed", "gone", "NQR-VER-001", "Mend it."),))
    assert bench.nqr("phase", "run", "verify") == 4
