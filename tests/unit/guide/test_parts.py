"""The parts without a screen: the join line, the answers that have an effect, the forecast, the course of a run, the thread."""

from __future__ import annotations

import shlex
import threading

import pytest
import typer
from tests.unit.guide.a_guide import PLAN, Memory

from nqrust.guide import fields, forecast, join
from nqrust.guide.backend import JOIN_TOKEN, Answers
from nqrust.guide.heard import Course, Heard
from nqrust.guide.work import Work
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.engine.events import (
    Notice,
    PhaseFinished,
    PhaseStarted,
    StepFinished,
    StepProgress,
    StepStarted,
)
from nqrust.installer.settings.options import BY_NAME
from nqrust.installer.settings.sources import gather


def printed_join_line(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """What `nqr host token NAME` prints at a terminal."""
    from contextlib import nullcontext
    from types import SimpleNamespace

    from nqrust.cli import hosts

    made = SimpleNamespace(token="nqr_the.token", expires_at="2026-01-01T00:00:00Z")
    said: list[str] = []
    monkeypatch.setattr(hosts, "manager", lambda url: nullcontext(SimpleNamespace(send=lambda call: made)))
    monkeypatch.setattr(hosts, "reached_from_elsewhere", lambda url: "http://10.77.0.2:18080")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(typer, "echo", lambda text, err=False: None if err else said.append(text))
    hosts.token(name)
    return said[0]


@pytest.mark.parametrize("name", ["h2", "a host"])
def test_the_line_that_nqr_prints_is_understood(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = join.answers(printed_join_line(monkeypatch, name))
    wanted = {"mode": "agent", "agent.name": name, "agent.manager_base": "https://10.77.0.2:18080"}
    assert found.settings == wanted and found.secrets[JOIN_TOKEN].reveal() == "nqr_the.token"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "echo nqr_x",
        "install.sh --mode agent --manager-url http://m:1",
        "echo 'nqr_x",
        "echo other; --manager-url http://m",
    ],
)
def test_any_other_line_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(UsageError) as refused:
        join.answers(line)
    assert refused.value.code == "NQR-USE-031" and "nqr_x" not in refused.value.what


def test_each_field_is_a_setting_or_sets_some() -> None:
    for key, field in fields.FIELDS.items():
        assert key in BY_NAME or field.about, key
        values = BY_NAME[key].choices if key in BY_NAME else ()
        assert set(values) >= {value for value, _ in field.choices} or values == (), key
        assert len(field.label) <= 15 and all(len(f"< {v} > {words}") <= 39 for v, words in field.choices), "60 columns"


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"network.cidr": "10.5.0.0/24"}, {"network.cidr"}),
        ({"network.cidr": "10.5.0.0/24", "network.mode": "bridged"}, {"network.mode"}),
        ({"network.cidr": "10.5.0.0/24", "mode": "manager"}, {"mode"}),
        ({"database.host": "db", "database.type": "remote", "mode": "agent"}, {"mode"}),
        ({"components.ui": False, "mode": "minimal"}, {"mode"}),
        ({"ui.bind": "127.0.0.1:3000", "manager.bind": "127.0.0.1:18080", "mode": "minimal"}, {"mode", "manager.bind"}),
    ],
)
def test_an_answer_that_another_one_hides_is_not_given(changed: dict[str, object], kept: set[str]) -> None:
    found = gather(flags={}, environ={})
    assert set(fields.effective(changed, found)) == kept
    assert gather(flags=fields.effective(changed, found), environ={}).settings


def test_secrets_reach_the_settings_and_no_text() -> None:
    found = Memory().settle(Answers({}, {"NQR_ADMIN_PASSWORD": Secret("a long password")}))
    assert found.admin_password is not None and "a long password" not in repr(found)


def test_the_forecast_follows_the_pace_of_the_host() -> None:
    assert forecast.left(100, 0, 0) == 100
    assert forecast.left(100, 50, 100) > forecast.left(100, 50, 50) > forecast.left(100, 50, 20)
    assert forecast.left(100, 100, 500) == 0
    assert [forecast.words(s) for s in (3, 24, 58, 95, 240)] == [
        "a few seconds",
        "about 20 seconds",
        "about 60 seconds",
        "about 2 minutes",
        "about 4 minutes",
    ]


def test_a_course_counts_steps_and_time() -> None:
    course, heard = Course.of(PLAN), Heard()
    whole = course.remaining(0, 0)
    for event in (
        PhaseStarted("deps", "Packages", 2),
        StepStarted("deps", "packages:platform", "packages", "install packages"),
        StepProgress("packages:platform", "Unpacking dnsmasq", 0.5),
        Notice("warning", "Slow mirror.", "NQR-DEP-210"),
        Notice("warning", "KVM does not work here.", "NQR-PRE-009"),
    ):
        heard.emit(event)
    for event in heard.take():
        course.apply(event)
    assert heard.take() == []
    assert course.now == "install packages" and course.note == "Unpacking dnsmasq" and course.remaining(20, 20) < whole
    assert [notice.code for notice in course.notices] == ["NQR-DEP-210"], "the first screen showed the checks"
    course.apply(StepFinished("deps", "packages:platform", "packages", "install packages", "changed", 40))
    course.apply(StepFinished("deps", "directory:/x", "directory", "already there", "satisfied"))
    assert course.phases[0].finished == 1 and 0.4 < course.share() < 0.6
    course.apply(PhaseFinished("deps", 1, 4, 41))
    assert course.phases[0].state == "done"
    course.apply(StepFinished("deps", "packages:platform", "packages", "install packages", "undone"))
    assert course.undone == 1 and course.now == "undo: install packages"


def test_work_runs_beside_and_hands_over_its_result_or_error() -> None:
    gate = threading.Event()
    work = Work(lambda: gate.wait(5) and "done")
    assert not work.ended
    gate.set()
    work.wait()
    assert work.ended and work.result == "done"
    broken = Work(lambda: shlex.split("'"))
    broken.wait()
    with pytest.raises(ValueError, match="quotation"):
        _ = broken.result
