"""When `nqr install` opens the guide, and how its screens reach the installer."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.guide.a_guide import DONE, PLAN

from nqrust.cli import session
from nqrust.cli.__main__ import run
from nqrust.cli.install import commands, gathering, guiding
from nqrust.guide.app import Ending, Guide
from nqrust.guide.backend import Answers
from nqrust.installer import operations
from nqrust.installer.engine.interrupt import Interruption, watching
from nqrust.installer.request import PhasePreview, PlanPreview, StepPreview, Summary


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A terminal of 80 columns, root, and no answer from anywhere."""
    for name in list(os.environ):
        if name.startswith("NQR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(session, "at_terminal", lambda: True)
    monkeypatch.setattr(guiding.shutil, "get_terminal_size", lambda fallback: (80, 24))
    monkeypatch.setattr(guiding.locale, "getpreferredencoding", lambda set_it: "UTF-8")
    monkeypatch.setattr(gathering, "recorded", dict)
    monkeypatch.setattr(gathering, "recall", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def opens(monkeypatch: pytest.MonkeyPatch, *words: str) -> bool:
    opened: list[bool] = []
    monkeypatch.setattr(commands, "_guide", lambda flags, found: opened.append(True))
    monkeypatch.setattr(operations, "install", lambda request, events: Summary("ok", 0))
    assert run(["install", *words]) == 0
    return bool(opened)


def test_a_terminal_without_answers_opens_the_guide(terminal: pytest.MonkeyPatch) -> None:
    assert opens(terminal) and opens(terminal, "--on-failure", "keep")


@pytest.mark.parametrize(
    "words", [("--mode", "minimal"), ("--config", "c.yaml"), ("--non-interactive",), ("--dry-run",), ("--output", "json")]
)
def test_an_answer_or_a_script_gets_no_guide(terminal: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    Path("c.yaml").write_text("mode: minimal\n")
    assert not opens(terminal, *words)


def test_interactive_opens_the_guide_with_the_answers(terminal: pytest.MonkeyPatch) -> None:
    assert opens(terminal, "--mode", "minimal", "--interactive")


def test_a_variable_is_an_answer_and_a_former_install_is_none(terminal: pytest.MonkeyPatch) -> None:
    terminal.setattr(gathering, "recorded", lambda: {"mode": "minimal"})
    assert opens(terminal)
    terminal.setenv("NQR_MODE", "minimal")
    assert not opens(terminal)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("TERM", "dumb"),
        ("TERM", ""),
        ("size", (59, 24)),
        ("size", (80, 19)),
        ("encoding", "ANSI_X3.4-1968"),
        ("pipe", None),
        ("textual", None),
    ],
)
def test_a_terminal_that_cannot_show_it_gets_the_short_dialogue(terminal: pytest.MonkeyPatch, what: str, value: Any) -> None:
    if what == "TERM":
        terminal.setenv("TERM", value)
    elif what == "size":
        terminal.setattr(guiding.shutil, "get_terminal_size", lambda fallback: value)
    elif what == "encoding":
        terminal.setattr(guiding.locale, "getpreferredencoding", lambda set_it: value)
    elif what == "pipe":
        terminal.setattr(session, "at_terminal", lambda: False)
    else:
        terminal.setattr(guiding, "find_spec", lambda name: None)
    assert not opens(terminal)


def test_other_commands_do_not_load_textual() -> None:
    import subprocess

    code = "import sys; from nqrust.cli.app import command; command(); import nqrust.cli.install.guiding; print('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# --- the backend of a real host


class FakeSession:
    class log:
        path = "/var/log/x.log"

        @staticmethod
        def emit(event: object) -> None:
            return None

        @staticmethod
        def detach() -> None:
            return None

    log_path = "/var/log/x.log"


def installer(**flags: object) -> guiding.Installer:
    return guiding.Installer({**flags}, FakeSession())  # type: ignore[arg-type]


def test_answers_win_over_the_flags_and_secrets_do_not_stay_in_the_environment(terminal: pytest.MonkeyPatch) -> None:
    from nqrust.host.secret import Secret

    answers = Answers({"mode": "manager"}, {"NQR_ADMIN_PASSWORD": Secret("a long password")})
    found = installer(mode="minimal", tls="off").settle(answers)
    assert (found.settings.mode.value, found.settings.tls.mode.value) == ("manager", "off")
    assert found.admin_password is not None and "NQR_ADMIN_PASSWORD" not in os.environ


def test_the_install_starts_only_with_the_plan_that_was_reviewed(terminal: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    terminal.setattr(operations, "install", lambda request, events: asked.append(request) or DONE)
    backend, interruption = installer(on_failure="keep"), Interruption()
    found = backend.settle(Answers())
    assert backend.keeps_after_failure() and not installer(on_failure=None).keeps_after_failure()
    assert backend.install(found, PLAN, operations, interruption) is DONE  # type: ignore[arg-type]
    (request,) = asked
    assert request.run.interruption is interruption and request.run.on_failure == "keep"
    assert request.run.log_path == "/var/log/x.log"
    other = PlanPreview("install", (PhasePreview("deps", "", (StepPreview("x", "file", "write x"),)),))
    assert request.run.confirm(PLAN) and not request.run.confirm(other)


def test_the_password_is_read_once_it_is_new(terminal: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "admin-password").write_text("generated\n")
    summary = replace(DONE, admin_password_file=str(tmp_path / "admin-password"))
    assert installer().first_password(summary) == "generated"
    assert installer().first_password(replace(summary, changed=0)) == "", "a re-run repeats no password"
    assert installer().first_password(replace(DONE, admin_password_file=str(tmp_path / "none"))) == ""


def test_a_saved_file_is_for_root_alone(terminal: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid)
    installer().save("c.yaml", "mode: minimal\n")
    assert (tmp_path / "c.yaml").stat().st_mode & 0o777 == 0o600


def test_answers_become_options_of_a_rehearsal(terminal: pytest.MonkeyPatch) -> None:
    found = installer().settle(Answers({"mode": "manager", "components.ui": False}))
    assert set(guiding._arguments(found)) == {"--mode=manager", "--no-ui"}


def test_a_rehearsal_comes_back_to_the_review(terminal: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []

    def screens(app: Guide, **_: object) -> Ending:
        opened.append((app._first, app.state.message))
        return Ending.rehearse if len(opened) == 1 else Ending.left

    terminal.setattr(Guide, "run", screens)
    terminal.setattr(guiding, "_rehearse", lambda *_: "The rehearsal succeeded.")
    backend = installer()
    ending, _ = guiding.guide({}, backend.run, backend.settle(Answers()))
    assert ending is Ending.left and opened == [("host", ""), ("review", "The rehearsal succeeded.")]


def test_an_install_outlives_its_screens(terminal: pytest.MonkeyPatch) -> None:
    """The terminal goes away: the run gets the signal, and the program waits for its end."""
    seen: list[int] = []

    def install(request: Any, events: object) -> Summary:
        with watching(lambda name: None, request.run.interruption) as interruption:
            for _ in range(500):
                if interruption.came:
                    break
                threading.Event().wait(0.01)
        seen.append(interruption.signal)
        return DONE

    def screens(app: Guide, **_: object) -> None:
        app.state.reviewed = PLAN
        app.state.start()
        os.kill(os.getpid(), signal.SIGTERM)
        return

    terminal.setattr(operations, "install", install)
    terminal.setattr(Guide, "run", screens)
    backend = installer()
    ending, state = guiding.guide({}, backend.run, backend.settle(Answers()))
    assert ending is Ending.done and state.summary is DONE and seen == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("ending", "number", "code", "said"),
    [
        (Ending.left, 0, 0, "Nothing was changed."),
        (Ending.stopped, 0, 130, "Stopped by SIGINT"),
        (Ending.stopped, 15, 130, "Stopped by SIGTERM"),
    ],
)
def test_each_way_out_before_the_install_has_its_code(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: Ending, number: int, code: int, said: str
) -> None:
    from nqrust.guide.state import State

    def screens(flags: Any, run: Any, found: Any) -> tuple[Ending, State]:
        return ending, State(installer(), found, signal=number)

    terminal.setattr(guiding, "guide", screens)
    assert run(["install"]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_a_rehearsal_from_the_guide_has_its_answers_and_secrets(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    from nqrust.host.secret import Secret
    from nqrust.installer.rehearsal import operation
    from nqrust.installer.reporting.plain import PlainReporter

    seen: list[Any] = []

    def rehearse(request: Any, arguments: tuple[str, ...], events: object, *, cwd: str) -> Summary:
        seen.extend((request.settings.mode.value, arguments, os.environ["NQR_ADMIN_PASSWORD"]))
        return Summary("failed", 1)

    terminal.setattr(operation, "rehearse", rehearse)
    terminal.setattr(sys, "stdin", io.StringIO("\n"))
    backend = installer(ignore_preflight=["NQR-PRE-006"])
    backend.run.display = PlainReporter(sys.stdout, sys.stderr)  # type: ignore[misc]
    found = backend.settle(Answers({"mode": "manager"}, {"NQR_ADMIN_PASSWORD": Secret("a long password")}))
    said = guiding._rehearse(backend.flags, backend.run, found)
    mode, arguments, password = seen
    assert (mode, password) == ("manager", "a long password") and "NQR_ADMIN_PASSWORD" not in os.environ
    assert {"--mode=manager", "--ignore-preflight=NQR-PRE-006", "--non-interactive"} <= set(arguments)
    assert "a long password" not in " ".join(arguments) and said in capsys.readouterr().out
