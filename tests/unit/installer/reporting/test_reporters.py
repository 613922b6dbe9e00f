"""The reports of the four reporters about one run."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.places import ROOT

from nqrust.cli.__main__ import _settle
from nqrust.host.port import command
from nqrust.host.secret import Secret, without_credentials
from nqrust.installer.engine.errors import NqrError, PreflightRefused, StepFailed
from nqrust.installer.engine.events import (
    Event,
    Notice,
    PhaseFinished,
    PhaseStarted,
    Proof,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from nqrust.installer.reporting import wording
from nqrust.installer.reporting.display import Display
from nqrust.installer.reporting.jsonl import JsonLinesReporter
from nqrust.installer.reporting.logfile import KEPT, LogFileReporter, log_command
from nqrust.installer.reporting.plain import PlainReporter
from nqrust.installer.reporting.terminal import TerminalReporter
from nqrust.installer.request import PhaseSummary, Summary

RUN: list[Event] = [
    RunStarted("r1", "install", False, 3),
    PhaseStarted("network", "The VMs' network", 3),
    Notice("warning", "Docker drops forwarded packets.", "NQR-PRE-012", ""),
    StepFinished("network", "a", "sysctl", "set net.ipv4.ip_forward to 1", "satisfied"),
    StepStarted("network", "b", "bridge", "create bridge fcbr0"),
    StepProgress("b", "half way", 0.5),
    StepFinished("network", "b", "bridge", "create bridge fcbr0", "changed", 2.0, ("+ bridge fcbr0",)),
    PhaseFinished("network", 1, 1, 2.0),
    Proof("bridge", "passed", "up with 10.0.0.1/24"),
    Proof("gateway", "unproven", "no guest", "NQR-VER-010", "Look."),
    RunFinished("ok", 1, 1, 2.0),
]
SUMMARY = Summary(
    "ok", 0, 1, 1, (PhaseSummary("network", 1, 1, 2.0),), 65.2, {"ui": "http://h:3000", "manager": "http://h:18080"},
    admin_password_file="/etc/x/admin-password", log_path="/var/log/x.log",
)  # fmt: skip


def told_plainly(events: list[Event], summary: Summary) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    reporter = PlainReporter(out, err)
    for event in events:
        reporter.emit(event)
    reporter.summary("install", summary)
    return out.getvalue(), err.getvalue()


def told_at_a_terminal(events: list[Event], summary: Summary, **how: object) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, highlight=False, **how)  # type: ignore[arg-type]
    reporter = TerminalReporter(console)
    for event in events:
        reporter.emit(event)
    reporter.summary("install", summary)
    return out.getvalue()


def test_plain_lines_tell_changes_once_and_end_with_what_comes_next() -> None:
    out, err = told_plainly(RUN, SUMMARY)
    assert err == "" and "\x1b" not in out
    assert out.count("+ create bridge fcbr0") == 1 and "ip_forward" not in out
    assert "network: 1 changed, 1 already so" in out
    assert "NQRust-MicroVM is installed. (1 changed, 1 already so, 1 min 5 s)" in out
    assert re.search(r"Web UI +http://h:3000\n.*Manager API +http://h:18080", out)
    assert "nqr vm create web1" in out and out.count("unproven") == 1


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii"])
def test_output_keeps_all_its_text_in_a_limited_locale(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = StepFailed("NQR-NET-110", "“start ✓ caf\xe9 \U0001f600 \udcff” failed.", "See …")
    told = {}
    for form in ("plain", "terminal", "json"):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, line_buffering=True) for _ in range(2)]
        monkeypatch.setattr("sys.stdout", streams[0])
        monkeypatch.setattr("sys.stderr", streams[1])
        _settle()
        reporter: Display = PlainReporter(sys.stdout, sys.stderr)
        if form == "json":
            reporter = JsonLinesReporter(sys.stdout)
        elif form == "terminal":
            reporter = TerminalReporter(Console(force_terminal=True, highlight=False, width=200))
        for event in [*RUN[:2], Notice("error", failure.what, failure.code, failure.cure), *RUN[4:8]]:
            reporter.emit(event)
        reporter.summary("install", Summary("failed", 1, failure=failure))
        told[form] = "".join(stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    wrapped = f'NQR-NET-110  "start + caf{"é" if encoding != "ascii" else chr(92) + "xe9"} \\U0001f600 \\ufffd" failed.'
    for form in ("plain", "terminal"):
        assert wrapped in told[form] and "See ..." in told[form] and "create bridge fcbr0" in told[form], told[form]
    assert "\\u28" not in told["terminal"], "a spinner in escapes"
    assert json.loads(told["json"].splitlines()[-1])["error"]["what"] == failure.what


def test_errors_go_to_standard_error_once() -> None:
    failure = StepFailed("NQR-NET-110", "The rules could not be set.", "See which firewall.")
    events: list[Event] = [Notice("error", failure.what, failure.code, failure.cure)]
    out, err = told_plainly([], Summary("rolled_back", 5, failure=failure))
    assert "NQR-NET-110" in err and "cure: See which firewall." in err
    assert "failed and was rolled back" in out
    assert told_plainly(events, Summary("refused", 3))[1].count("NQR-NET-110") == 1


def test_names_of_others_reach_no_terminal_as_commands(tmp_path: Path) -> None:
    """Any user of the host chooses the names of programs, and a release those of its files."""
    name = "\x1b]0;owned\x07\x9b2J\x1bc"
    events: list[Event] = [
        PhaseStarted("preflight", "Checks", 0),
        Notice("error", f"Port 18080 is held by {name}.", "NQR-PRE-007", f"Stop {name}."),
        StepStarted("network", "b", "bridge", f"unpack {name}"),
        StepProgress("b", f"waiting for {name}"),
        StepFinished("network", "b", "bridge", f"unpack {name}", "failed", 2.0, (), name),
        Proof("gateway", "failed", name, "NQR-VER-010", name),
    ]
    finding = NqrError("NQR-PRE-007", f"Port 18080 is held by {name}.", f"Stop {name}.")
    summary = Summary(
        "refused", 3, 0, 0, (), 1.0, failure=PreflightRefused("NQR-PRE-001", "No.", "Do.", (finding,)), notes=(name,)
    )
    file = io.StringIO()
    reporter = TerminalReporter(Console(file=file, force_terminal=True, color_system=None))
    for event in events:
        reporter.emit(event)
    reporter.summary("install", summary)
    reporter.failure(finding)
    log = LogFileReporter(str(tmp_path))
    for event in events:
        log.emit(event)
    log.failure(finding)
    log.detach()
    for said in (*told_plainly(events, summary), file.getvalue(), Path(log.path).read_text()):
        assert "owned" in said
        assert not re.search(r"\x1b\]|\x1bc|\x9b|\x07", said)


def test_the_terminal_obeys_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = told_at_a_terminal(RUN, SUMMARY)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", shown)
    assert "NQRust-MicroVM is installed." in shown and "/etc/x/admin-password" in shown


def test_a_narrow_terminal_cuts_no_path_and_no_address() -> None:
    path = "/etc/nqrust-microvm/admin-password"
    out, summary = io.StringIO(), replace(SUMMARY, authority="2e" * 32, admin_password_file=path)
    TerminalReporter(Console(file=out, force_terminal=True, width=40, highlight=False)).summary("install", summary)
    shown = out.getvalue()
    assert path in shown and "2e" * 32 in shown and "http://h:18080" in shown and "…" not in shown


def test_the_terminal_leaves_no_spinner_behind() -> None:
    shown = told_at_a_terminal(RUN, SUMMARY)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # every hidden cursor is shown again


def test_json_lines_are_one_object_each_and_the_summary_is_last() -> None:
    out = io.StringIO()
    reporter = JsonLinesReporter(out)
    for event in RUN:
        reporter.emit(event)
    reporter.summary("install", SUMMARY)
    reporter.emit(RUN[0])
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == [
        "run_started", "phase_started", "notice", "step_finished", "step_started", "step_progress", "step_finished",
        "phase_finished", "proof", "proof", "summary",
    ]  # fmt: skip
    assert list(lines[-1])[:7] == ["type", "outcome", "changed", "satisfied", "phases", "seconds", "urls"]


def test_a_run_that_changes_nothing_leaves_no_log(tmp_path: Path) -> None:
    log = LogFileReporter(str(tmp_path / "logs"))
    for event in (RUN[0], RUN[1], RUN[3], PhaseFinished("network", 0, 1, 0.1)):
        log.emit(event)
    assert not (tmp_path / "logs").exists() and not log.opened


def test_the_log_holds_what_came_before_the_first_change_too(tmp_path: Path) -> None:
    log = LogFileReporter(str(tmp_path / "logs"))
    log.attach()
    log_command(
        command("ip", "link", "show", input=Secret("hidden-value"), env={"PGPASSWORD": Secret("hidden-value")}),
        0,
        0.01,
    )
    for event in RUN:
        log.emit(event)
    log.failure(NqrError("NQR-ENG-001", "What.", "Cure."))
    log.detach()
    text = Path(log.path).read_text()
    assert Path(log.path).stat().st_mode & 0o777 == 0o600
    for part in (
        "run     r1 install",
        "ran ip link show: exit 0",
        "diff    + bridge fcbr0",
        "proof   gateway",
        "NQR-ENG-001",
    ):
        assert part in text
    assert "hidden-value" not in text
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z ", line) for line in text.splitlines())


def test_only_the_newest_logs_of_runs_stay(tmp_path: Path) -> None:
    old = [tmp_path / f"20240101T00{minute:02}00Z.log" for minute in range(60)]
    second, other = tmp_path / "20240101T005900Z-2.log", tmp_path / "notes.log"
    for path in (*old, second, other):
        path.write_text("")
    log = LogFileReporter(str(tmp_path))
    for event in RUN:
        log.emit(event)
    log.detach()
    assert sorted(tmp_path.iterdir()) == sorted([Path(log.path), other, second, *old[-(KEPT - 2) :]])
    page = (ROOT / "docs" / "operate" / "monitoring.md").read_text()
    assert f"{KEPT} files in `/var/log/nqrust-install`" in page


def test_a_log_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = LogFileReporter(str(tmp_path / "file" / "logs"))
    for event in RUN:
        log.emit(event)
    assert not log.opened


def test_closed_output_pipe_does_not_stop_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    for reporter in (PlainReporter(Gone(), Gone()), JsonLinesReporter(Gone())):
        for event in RUN:
            reporter.emit(event)
        reporter.summary("install", SUMMARY)


@pytest.mark.parametrize(("seconds", "shown"), [(0.04, "0.0 s"), (12.4, "12 s"), (59.9, "60 s"), (185, "3 min 5 s")])
def test_durations(seconds: float, shown: str) -> None:
    assert wording.duration(seconds) == shown


@pytest.mark.parametrize(
    ("verb", "summary", "said"),
    [
        (
            "install",
            Summary("ok", 0, 0, 9, (PhaseSummary("deps", 0),)),
            "already installed. Nothing had to change",
        ),
        ("install", Summary("ok", 0), "Nothing was changed."),
        ("install", Summary("rolled_back", 130, 0, 0, (PhaseSummary("deps", 0),)), "interrupted"),
        ("install", Summary("partly_undone", 130, 0, 0, (PhaseSummary("deps", 0),)), "interrupted, and nqr could not undo all"),
        ("install", Summary("partly_undone", 1, 0, 0, (PhaseSummary("deps", 0),)), "failed, and nqr could not undo all"),
        ("uninstall", Summary("partly_undone", 130, 9, 0, (PhaseSummary("uninstall", 9),)), "interrupted. Run the same command"),
        ("uninstall", Summary("partly_undone", 1, 9, 0, (PhaseSummary("uninstall", 9),)), "is not complete"),
        ("install", Summary("failed", 4, 3, 0, (PhaseSummary("deps", 3),)), "a proof failed"),
        ("install", Summary("failed", 1), "did not start"),
        ("uninstall", Summary("ok", 0, 9, 0, (PhaseSummary("uninstall", 9),)), "is removed"),
        ("verify", Summary("ok", 0), "works"),
    ],
)
def test_headlines(verb: str, summary: Summary, said: str) -> None:
    assert said in wording.headline(verb, summary)


def test_reporter_restores_the_logger(tmp_path: Path) -> None:
    log = LogFileReporter(str(tmp_path))
    log.attach()
    log.detach()
    assert log not in logging.getLogger("nqrust").handlers


WITH_PASSWORD = "http://ann:s3cret@proxy.example:3128 refused the connection"


def test_passwords_in_addresses_are_never_shown(tmp_path: Path) -> None:
    """Package managers and pip name their proxy with all that its address holds."""
    events: list[Event] = [
        StepStarted("deps", "a", "packages", "install packages"),
        StepProgress("a", WITH_PASSWORD, None),
        Notice("warning", WITH_PASSWORD, "NQR-DEP-105", ""),
    ]
    error = StepFailed("NQR-DEP-105", f"Packages could not be downloaded: {WITH_PASSWORD}.", "Check the proxy.")
    log = LogFileReporter(str(tmp_path))
    out, err, lines, screen = io.StringIO(), io.StringIO(), io.StringIO(), io.StringIO()
    displays = (
        PlainReporter(out, err),
        JsonLinesReporter(lines),
        TerminalReporter(Console(file=screen, force_terminal=True, width=200)),
    )
    for display in displays:
        for event in events:
            display.emit(event)
        display.failure(error)
        display.close()
    for event in events:
        log.emit(event)
    log.failure(error)
    for text in (out.getvalue(), err.getvalue(), lines.getvalue(), screen.getvalue(), Path(log.path).read_text()):
        assert "s3cret" not in text and "ann" not in text
        assert "proxy.example:3128" in text or not text.strip()


@pytest.mark.parametrize(("text", "shown"), [
    ("https://u:p%40@h:8080/x and http://:t@i/", "https://********@h:8080/x and http://********@i/"),
    ("ssh://git@host:22/x", "ssh://git@host:22/x"),
    ("http://host:80/a@b", "http://host:80/a@b"),
    ('{"url": "http://u:p@h/"}', '{"url": "http://********@h/"}'),
])  # fmt: skip
def test_only_credentials_are_masked(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
