"""No output names a missing log: a complete uninstall removes its own log too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from nqrust.cli import session
from nqrust.cli.install import commands as run_commands
from nqrust.installer.engine.errors import NqrError, StepFailed
from nqrust.installer.engine.events import StepStarted
from nqrust.installer.reporting import logfile
from nqrust.installer.request import Summary


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    real = logfile.LogFileReporter
    monkeypatch.setattr(logfile, "LogFileReporter", lambda level: real(str(tmp_path), level))
    return tmp_path


def finished(output: str, folder: Path, *, gone: bool, failure: NqrError | None = None) -> None:
    with session.opened(output, "debug") as run:
        run.events.emit(StepStarted("deps", "s1", "packages", "remove packages"))
        assert [path.suffix for path in folder.iterdir()] == [".log"]
        if gone:
            os.remove(run.log.path)
        with pytest.raises(typer.Exit):
            run_commands._finish(run, "uninstall", Summary("ok", 0, failure=failure, log_path=run.log.path))


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("failed", [False, True])
def test_error_does_not_name_a_missing_log(
    output: str, failed: bool, log_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = StepFailed("NQR-ENG-005", "Not everything could be undone.", "Run it again.") if failed else None
    finished(output, log_folder, gone=True, failure=failure)
    said = capsys.readouterr()
    assert str(log_folder) not in said.out + said.err


@pytest.mark.parametrize("output", ["text", "json"])
def test_error_names_an_existing_log(output: str, log_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(output, log_folder, gone=False)
    assert str(log_folder) in capsys.readouterr().out


def test_a_trace_names_no_log_that_is_gone(log_folder: Path) -> None:
    with session.opened("text", "debug") as run:
        run.events.emit(StepStarted("deps", "s1", "packages", "remove packages"))
        os.remove(run.log.path)
    assert session.keep_trace(NqrError("NQR-ENG-999", "It broke.", "Report it."), "Traceback ...") == ""
