"""The command line as users meet it: help, exit codes, errors with codes, and JSON only if requested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.cli import session
from nqrust.cli.app import command
from nqrust.cli.install.config import render_schema
from nqrust.installer.engine.errors import Locked, NqrError, PreflightRefused
from nqrust.installer.request import PhasePreview, PhaseSummary, PlanPreview, Request, StepPreview, Summary
from nqrust.installer.settings.options import RUN_FLAGS

GOLDEN = ROOT / "tests" / "golden" / "cli"
ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "COLUMNS": "100", "HOME": "/nonexistent"}


def nqr(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nqrust.cli", *words],
        capture_output=True, text=True, env={**ENVIRON, **environ}, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


def every_command(group: object = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, inner in (group or command()).commands.items():  # type: ignore[attr-defined]
        here = (*path, name)
        found.append(here)
        if hasattr(inner, "commands"):
            found += every_command(inner, here)
    return found


def test_the_commands_are_those_of_the_golden_list() -> None:
    listed = "\n".join(" ".join(path) for path in every_command()) + "\n"
    assert listed == (GOLDEN / "commands.txt").read_text()


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from nqrust.cli.__main__ import run

    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: nqr {' '.join(path)}" in shown
    assert "─" not in shown


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nqrust.cli.__main__ import run; run(['--help']);"
        "heavy = {'pydantic', 'rich', 'yaml', 'httpx', 'jinja2', 'textual', 'websockets'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRON, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_loading_modules_is_interrupted_by_few_searches_for_garbage() -> None:
    code = "import gc, sys; from nqrust.cli.__main__ import main\ntry: main(['--version'])\nfinally: print(gc.isenabled(), gc.get_threshold()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRON, timeout=60)
    assert done.stdout.split()[-2:] == ["True", "50000"]


@pytest.mark.parametrize(
    ("words", "code", "what", "cure"),
    [
        (["instal"], "NQR-USE-005", "no command instal", "Did you mean `nqr install`?"),
        (["vm", "lst"], "NQR-USE-005", "`nqr vm` has no command lst", "Did you mean `nqr vm ls`?"),
        (["install", "--mod", "dev"], "NQR-USE-002", "--mod", "Did you mean --mode?"),
        (["install", "--with-iu"], "NQR-USE-002", "--with-iu", "Did you mean --with-ui?"),
        (["plan", "--mode"], "NQR-USE-004", "nqr plan", "nqr plan --help"),
        (["install", "--report", "r.json"], "NQR-USE-004", "--report", "--rehearse"),
        (["plan", "--rehearse"], "NQR-USE-002", "`nqr plan` has no flag --rehearse", ""),
        (["verify", "--config", "c.yaml"], "NQR-USE-002", "--config", "nqr verify --help"),
        (["plan", "extra"], "NQR-USE-006", "`nqr plan` takes nothing more, but got: extra.", "nqr plan --help"),
        (["vm", "ls", "a", "b"], "NQR-USE-006", "`nqr vm ls` takes nothing more, but got: a b.", "nqr vm ls --help"),
        (["exec", "web1"], "NQR-USE-004", "`nqr vm exec` needs COMMAND.", "nqr vm exec --help"),
        (["vm", "show"], "NQR-USE-004", "needs NAME", "nqr vm show --help"),
        (["vm", "create", "--image", "tiny"], "NQR-USE-004", "needs NAME", "nqr vm create --help"),
        (["config", "show", "--mode", "prod"], "NQR-USE-003", "prod", "Did you mean production?"),
        (["config", "validate", "--config", "/no/such.yaml"], "NQR-CFG-001", "/no/such.yaml", "--config"),
        (["vm", "create", "--name", "A_b", "--image", "x"], "NQR-USE-003", "A_b", "lower-case"),
        (["vm", "create", "--name", "ab", "--image", "x", "--memory", "lots"], "NQR-USE-003", "lots", "MiB"),
        (["vm", "create", "--name", "ab", "--image", "x", "--ssh-key", "/no"], "NQR-USE-003", "/no", ".pub"),
        (["vm", "ls", "--manager", "ftp://x"], "NQR-USE-003", "ftp://x", "http://"),
        (["image", "add", "mine"], "NQR-USE-007", "--path", "nqr image add"),
        (["image", "add", "mine", "--path", "/x", "--sha256", "0"], "NQR-USE-007", "--sha256", "--url"),
        (["phase", "run", "netwrk"], "NQR-USE-003", "netwrk", "Did you mean network?"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line_and_a_cure(words: list[str], code: str, what: str, cure: str) -> None:
    done = nqr(*words)
    assert done.returncode == 2
    first, second, *rest = done.stderr.splitlines()
    assert first.startswith(f"{code}  ") and what in first
    assert second.startswith("  cure: ") and cure in second
    assert (rest, done.stdout) == ([], "")


def test_without_arguments_the_help_is_shown() -> None:
    done = nqr()
    assert (done.returncode, done.stderr) == (0, "") and "Commands:" in done.stdout


def test_json_output_applies_to_usage_errors_too() -> None:
    done = nqr("install", "--output", "json", "--no-such-flag")
    assert (done.returncode, done.stderr) == (2, "")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["type"], last["outcome"], last["error"]["code"]) == ("summary", "refused", "NQR-USE-002")


@pytest.mark.parametrize("verb", ["install", "plan", "uninstall", "rollback", "verify", "status", "support-bundle"])
def test_non_root_is_refused_with_the_cure(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nqrust.cli.__main__ import run

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run([verb]) == 2
    assert "NQR-USE-001" in (said := capsys.readouterr().err) and "sudo" in said


def test_unreachable_manager_is_a_coded_error() -> None:
    done = nqr("vm", "ls", "--manager", "http://127.0.0.1:9", NQR_TOKEN="x")
    assert done.returncode == 1 and done.stderr.startswith("NQR-API-198") and "cure: " in done.stderr


def test_no_token_is_a_coded_error(tmp_path: Path) -> None:
    done = nqr("vm", "ls", CONFIG_DIR=str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("NQR-USE-010") and "NQR_TOKEN" in done.stderr


def test_cli_leaves_a_deleted_working_directory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        "import os, sys; import nqrust.cli.__main__ as cli; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); "
        "cli.run = lambda argv: print(os.getcwd()); cli.main([])"
    )
    done = subprocess.run([sys.executable, "-c", program, gone], capture_output=True, text=True, env=ENVIRON, timeout=60)
    assert (done.returncode, done.stdout) == (0, "/\n"), done.stderr


def test_published_schema_matches_the_models() -> None:
    assert (ROOT / "docs" / "reference" / "config.schema.json").read_text() == render_schema()


# --- runs, with operations that answer from memory


class Answers:
    """Replacement for `operations` that records the request and gives one answer."""

    def __init__(self, answer: Summary | Exception) -> None:
        self.answer = answer
        self.request: Request | None = None

    def __call__(self, request: Request, *_: object) -> Summary:
        self.request = request
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    from nqrust.cli.install import gathering
    from nqrust.installer import operations
    from nqrust.installer.reporting import logfile

    monkeypatch.setattr(gathering, "recorded", dict)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(logfile.LogFileReporter.__init__, "__defaults__", (str(tmp_path / "log"), 10))

    def give(verb: str, result: Summary | Exception) -> Answers:
        answers = Answers(result)
        monkeypatch.setattr(operations, verb, answers)
        return answers

    return give


def run(*words: str) -> int:
    from nqrust.cli.__main__ import run as run_cli

    return run_cli(list(words))


def test_install_passes_its_options_on_and_prints_the_summary(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answers = answer(
        "install",
        Summary("ok", 0, 7, 3, (PhaseSummary("deps", 7, 3, 1.5),), 1.5, {"ui": "http://h:3000", "manager": "http://h:18080"},
                admin_password_file="/etc/nqrust-microvm/admin-password"),
    )  # fmt: skip
    assert run("install", "--mode", "minimal", "--non-interactive", "--on-failure", "keep") == 0
    assert answers.request.settings.mode.value == "minimal"
    assert (answers.request.run.on_failure, answers.request.run.confirm) == ("keep", None)
    said = capsys.readouterr().out
    assert "NQRust-MicroVM is installed. (7 changed, 3 already so, 1.5 s)" in said
    assert "http://h:3000" in said and "/etc/nqrust-microvm/admin-password" in said and "nqr vm create" in said


def test_json_lines_are_json_to_the_last(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answer("install", Summary("ok", 0, 7, 3, (PhaseSummary("deps", 7, 3, 1.5),), 1.5, {"ui": "http://h:3000"}))
    assert run("install", "--output", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == "summary"
    assert {k: lines[-1][k] for k in ("outcome", "changed", "satisfied", "phases", "seconds", "urls")} == {
        "outcome": "ok", "changed": 7, "satisfied": 3, "seconds": 1.5, "urls": {"ui": "http://h:3000"},
        "phases": [{"name": "deps", "changed": 7, "seconds": 1.5}],
    }  # fmt: skip


@pytest.mark.parametrize("exit_code", [0, 1, 2, 3, 4, 5, 130])
def test_exit_code_matches_the_summary(exit_code: int, answer) -> None:  # type: ignore[no-untyped-def]
    answer("install", Summary("ok" if not exit_code else "failed", exit_code))
    assert run("install", "--non-interactive") == exit_code


def test_every_preflight_finding_is_told_with_its_cure(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    findings = (NqrError("NQR-PRE-001", "One.", "Mend one."), NqrError("NQR-PRE-002", "Two.", "Mend two."))
    answer(
        "install",
        Summary("refused", 3, failure=PreflightRefused("NQR-PRE-001", "One.", "Mend one.", findings)),
    )
    assert run("install", "--non-interactive") == 3
    said = capsys.readouterr()
    assert said.err.count("cure: Mend") == 2
    assert "The install was refused; nothing was touched." in said.out


PREVIEW = PlanPreview(
    "install",
    (PhasePreview("config", "Config", (StepPreview("f", "file", "write /etc/x", ("--- a", "+++ b", "+new")),), 4),),
)


@pytest.mark.parametrize(
    ("preview", "words", "code"),
    [(PREVIEW, [], 0), (PREVIEW, ["--detailed-exitcode"], 10), (PlanPreview(), ["--detailed-exitcode"], 0)],
)
def test_plan_shows_diffs_and_its_exit_code(preview, words, code, answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answers = answer("plan", Summary("ok", 0, preview=preview))
    assert run("plan", *words) == code
    assert answers.request.run.dry_run
    said = capsys.readouterr().out
    if preview.changes:
        assert "+ write /etc/x" in said and "      +new" in said and "1 change, 4 already so." in said
    else:
        assert "Nothing to change" in said


@pytest.mark.parametrize("verb", sorted(next(f for f in RUN_FLAGS if f.flag == "--dry-run").verbs))
def test_a_dry_run_shows_the_preview_asks_nothing_and_leaves_nothing(verb, answer, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    words = ["phase", "run", "config"] if verb == "phase" else [verb]
    answers = answer("phase_run" if verb == "phase" else verb, Summary("ok", 0, preview=PREVIEW))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(session, "at_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", None)  # nobody is asked
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("nothing may run at the end"))
    assert run(*words, "--dry-run") == 0
    assert answers.request.run.dry_run and "+ write /etc/x" in capsys.readouterr().out
    monkeypatch.setenv("NQR_DRY_RUN", "1")
    assert run(*words) == 0 and answers.request.run.dry_run
    capsys.readouterr()
    assert run(*words, "--output", "json") == 0
    plan, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (plan["type"], plan["changes"], last["type"], last["changed"]) == ("plan", 1, "summary", 0)
    assert run(*words, "--no-dry-run") == 0 and not answers.request.run.dry_run


def test_a_dry_run_of_a_purge_needs_nobody_to_answer(answer) -> None:  # type: ignore[no-untyped-def]
    answers = answer("uninstall", Summary("ok", 0, preview=PREVIEW))
    assert run("uninstall", "--dry-run", "--purge-data", "--drop-database") == 0
    assert answers.request.run.purge_data and answers.request.run.drop_database and answers.request.run.dry_run


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["uninstall", "--script", "/tmp/undo.sh"], "--script"),
        (["uninstall", "--save-fingerprint", "/tmp/before"], "--save-fingerprint"),
        (["install", "--rehearse"], "rehearsal"),
    ],
)
def test_dry_run_refuses_options_that_write(words, what, answer, capsys) -> None:  # type: ignore[no-untyped-def]
    assert run(*words, "--dry-run") == 2
    said = capsys.readouterr().err
    assert said.startswith("NQR-USE-014") and what in said and not os.path.exists(words[-1])


def test_script_option_refuses_json_output(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    assert run("uninstall", "--script", "/tmp/undo.sh", "--output", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NQR-USE-014" and not os.path.exists("/tmp/undo.sh")


@pytest.mark.parametrize(
    ("words", "variable", "value", "code"),
    [
        (["install"], "NQR_REPORT", "/tmp/report.json", "NQR-USE-004"),
        (["uninstall", "--script", "-"], "NQR_OUTPUT", "json", "NQR-USE-014"),
    ],
)
def test_variable_without_effect_is_refused_like_its_flag(  # type: ignore[no-untyped-def]
    words, variable, value, code, answer, capsys, monkeypatch
) -> None:
    answer("install", Summary("ok", 0))
    answer("undo_script", "echo undo\n")
    assert run(*words) == 0
    capsys.readouterr()
    monkeypatch.setenv(variable, value)
    assert run(*words) == 2
    said = capsys.readouterr()
    assert code in said.out + said.err and variable in said.out + said.err


def test_the_script_is_printed_in_a_dry_run(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answer("undo_script", "echo undo\n")
    assert run("uninstall", "--script", "-", "--dry-run") == 0
    assert capsys.readouterr().out == "echo undo\n"


def test_an_unexpected_error_is_coded_and_its_trace_is_in_the_log_only(answer, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    answer("install", RuntimeError("inside"))
    assert run("install", "--non-interactive") == 1
    said = capsys.readouterr()
    assert said.err.startswith("NQR-ENG-999") and "Traceback" not in said.out + said.err
    (log,) = (tmp_path / "log").glob("*.log")
    assert str(log) in said.err and "RuntimeError: inside" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_locked_installer_reports_the_lock_and_exits(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answer("install", Summary("failed", 1, failure=Locked("NQR-ENG-020", "Held by 12.", "Wait.")))
    assert run("install", "--non-interactive") == 1
    said = capsys.readouterr()
    assert "NQR-ENG-020" in said.err and "did not start; nothing was changed" in said.out


def test_purging_without_anyone_to_ask_needs_non_interactive(answer, capsys) -> None:  # type: ignore[no-untyped-def]
    answers = answer("uninstall", Summary("ok", 0, 3, phases=(PhaseSummary("uninstall", 3),)))
    assert run("uninstall", "--purge-data") == 2
    assert "NQR-USE-009" in capsys.readouterr().err and answers.request is None
    assert run("uninstall", "--purge-data", "--drop-database", "--keep-packages", "--non-interactive") == 0
    asked = answers.request.run
    assert asked.purge_data and asked.drop_database and asked.keep_packages


def test_uninstall_works_with_a_bad_environment(answer, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WITH_UI", "perhaps")
    answer("uninstall", Summary("ok", 0, 3, phases=(PhaseSummary("uninstall", 3),)))
    assert run("uninstall", "--non-interactive") == 0


def test_no_option_takes_a_password() -> None:
    """Every user of a host sees command lines, so passwords come from files or the environment."""
    from nqrust.cli.app import command

    def options(node, path):  # type: ignore[no-untyped-def]
        for name, child in getattr(node, "commands", {}).items():
            yield from options(child, f"{path} {name}")
        yield from ((path, name) for parameter in node.params for name in parameter.opts)

    secret = [(path, name) for path, name in options(command(), "nqr") if re.search("password|secret|token", name)]
    assert secret and all(name.endswith("-file") for _, name in secret), secret


def test_a_command_loads_and_builds_little_else() -> None:
    """Each millisecond counts at a prompt: benchmarks/command_line.py measures them."""
    code = (
        "import os, sys; sys.modules['click'] = None\n"
        "os.environ |= {'NQR_MANAGER_URL': 'http://127.0.0.1:9', 'NQR_TOKEN': 't'}\n"
        "from nqrust.cli import app\n"
        "root = app.command(); app.command = lambda: root\n"
        "from nqrust.cli.__main__ import run\n"
        "code = run(['vm', 'ls'])\n"
        "contracts = ('agent', 'auth', 'events', 'hosts', 'templates', 'unknown_vms')\n"
        "print(code, [m for m in ('asyncio', *(f'nqrust.contract.{c}' for c in contracts)) if m in sys.modules],"
        " [name for name in root.commands['vm'].commands._all()._built])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1 [] ['ls']", done.stdout + done.stderr
