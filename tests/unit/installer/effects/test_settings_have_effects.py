"""Every setting of the registry has a row that names its effect. The plan shows that effect: by flag, by each of its
variables, by file, and in each verb that accepts it. A setting without effect is refused or reported."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.places import ROOT
from tests.unit.installer.effects.observing import observed

from nqrust.cli import app
from nqrust.cli.__main__ import run
from nqrust.cli.install import gathering
from nqrust.installer import operations
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.request import Request, Summary
from nqrust.installer.settings.options import BY_NAME, OPTIONS, Form, Option
from nqrust.installer.settings.record import value_of
from nqrust.installer.settings.sources import gather, nested
from nqrust.installer.settings.yaml_file import parse

TREE = app.command()
ROWS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tests/tables/effects/settings.yaml").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("named")
    (folder / "file").write_text("first-line-of-the-file\n")
    (folder / "file").chmod(0o600)
    return {"FILE": str(folder / "file"), "DIRECTORY": str(folder)}


def value(row: dict[str, Any], files: dict[str, str]) -> Any:
    return files.get(row["value"], row["value"]) if isinstance(row["value"], str) else row["value"]


def text(given: Any) -> str:
    return str(given).lower() if isinstance(given, bool) else str(given)


def test_the_table_is_the_registry() -> None:
    assert sorted(ROWS) == sorted(BY_NAME)
    for name, row in ROWS.items():
        wanted = "elsewhere" if "elsewhere" in row else "gives" if "gives" in row else "takes"
        assert len(row[wanted]) > 10 and row.keys() <= {"value", "beside", "without", "gives", "takes", "elsewhere"}, name


@pytest.mark.parametrize("name", [name for name in ROWS if "elsewhere" not in ROWS[name]])
def test_a_setting_has_the_effect_that_its_row_names(name: str, files: dict[str, str]) -> None:
    row = ROWS[name]
    beside = row.get("beside", {})
    given, without = {**beside, name: value(row, files)}, {**beside, **row.get("without", {})}
    after, before = "\n".join(sorted(observed(given))), "\n".join(sorted(observed(without)))
    for wanted, there, not_there in ((row.get("gives"), after, before), (row.get("takes"), before, after)):
        for key, path in files.items():
            wanted = wanted.replace(key, path) if wanted else wanted
        assert wanted is None or (wanted in there and wanted not in not_there), wanted


@pytest.mark.parametrize("name", [name for name in ROWS if "elsewhere" in ROWS[name]])
def test_an_effect_that_is_proven_elsewhere_is(name: str) -> None:
    file, _, test = ROWS[name]["elsewhere"].partition("::")
    assert f"def {test}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_flag_variables_and_file_say_the_same(option: Option, files: dict[str, str], tmp_path: Path) -> None:
    row = ROWS[option.name]
    given, beside = value(row, files), row.get("beside", {})
    by_flag = gather(flags={**beside, option.name: given}, environ={})
    assert by_flag.settings != gather(flags={**beside, **row.get("without", {})}, environ={}).settings
    for variable in option.variables:
        by_variable = gather(flags=beside, environ={variable: text(given)})
        assert by_variable.settings == by_flag.settings, variable
        assert by_variable.given[option.name].label == f"environment variable {variable}"
    content = yaml.safe_dump(nested({option.name: int(given) if option.form is Form.number else given}))
    by_file = gather(flags=beside, environ={}, config=parse(content.encode(), "c.yaml"))
    assert by_file.settings == by_flag.settings


# --- each verb that accepts them

VERBS = (("install",), ("plan",), ("phase", "run", "config"), ("config", "show"), ("config", "validate"))


def accepting(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    for name, inner in group.commands.items():
        if hasattr(inner, "commands"):
            yield from accepting(inner, (*path, name))
        else:
            yield (*path, name), {word for parameter in inner.params for word in parameter.opts}


def test_the_verbs_with_settings_take_all_of_them() -> None:
    flags = {option.flag for option in OPTIONS}
    taking = {path: flags & words for path, words in accepting(TREE) if "--install-dir" in words or "--mode" in words}
    assert sorted(taking) == sorted(tuple(word for word in verb if word != "config" or verb[0] == word) for verb in VERBS)
    assert all(taken == flags for taken in taking.values())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Return the requests that reach the operations."""
    found: list[Request] = []

    def operation(request: Request, *_: object) -> Summary:
        found.append(request)
        return Summary("ok", 0)

    for name in ("install", "plan", "phase_run"):
        monkeypatch.setattr(operations, name, operation)
    monkeypatch.setattr(app, "command", lambda: TREE)  # made once
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(gathering, "recorded", dict)
    return found


def words_of(name: str, given: Any) -> list[str]:
    option = BY_NAME[name]
    return [option.flag if given else option.off] if option.form is Form.boolean else [option.flag, text(given)]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_verb_passes_the_setting_on(
    option: Option, verb: tuple[str, ...], files: dict[str, str], asked: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    row = ROWS[option.name]
    given = value(row, files)
    beside = [word for name, item in row.get("beside", {}).items() for word in words_of(name, item)]
    assert run([*verb, *beside, *words_of(option.name, given)]) == 0
    said = capsys.readouterr().out
    if verb[-1] == "show":
        shown = next(line for line in said.splitlines() if line.split()[0] == option.name)
        assert text(given) in shown and words_of(option.name, given)[0] in shown
    elif verb[-1] == "validate":
        assert f"{1 + len(row.get('beside', {}))} given" in said
    else:
        assert text(value_of(asked[0].settings, option.name)) == text(given) and option.name in asked[0].explicit


# --- where a setting can do nothing

SITUATIONS: list[dict[str, str]] = [
    *(
        {"NQR_MODE": mode, "NETWORK_MODE": network}
        for mode in ("production", "minimal", "manager", "agent")
        for network in ("nat", "bridged")
    ),
    {"NQR_RELEASE": "https://releases.example/v1"},
    {"DB_TYPE": "remote", "DB_HOST": "db1.example"},
]


@cache
def bare(number: int) -> set[str]:
    return observed({}, SITUATIONS[number])


RESTATED = {("components.ui", "minimal"), ("components.ui", "agent")}
"""--no-ui changes nothing in a mode without a web UI."""


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("mode", "release.public_key")])
def test_no_flag_is_accepted_and_then_ignored(name: str, files: dict[str, str]) -> None:
    given = value(ROWS[name], files)
    own = BY_NAME[name].variables
    for number, situation in enumerate(SITUATIONS):
        if set(own) & set(situation) or (name, situation.get("NQR_MODE")) in RESTATED:
            continue
        try:
            after = observed({name: given}, situation)
        except NqrError as error:
            assert error.code == "NQR-CFG-009", situation
            if "has no effect here" in error.what:
                notes = gather(flags={}, environ={**situation, own[0]: text(given)}).notes
                assert any(note.startswith(f"{name} (") for note in notes), situation
        else:
            assert after != bare(number), f"{name} does nothing in {situation}"


def test_recorded_settings_cause_no_refusal() -> None:
    kept = gather(flags={"mode": "agent"}, environ={}, recorded={"ui.bind": "127.0.0.1:3333"})
    assert kept.notes == ()
    assert json.dumps(kept.settings.model_dump(mode="json")["ui"]) == '{"bind": "127.0.0.1:3333"}'
