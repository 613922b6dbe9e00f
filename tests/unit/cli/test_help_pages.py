"""Every help page in 60, 80 and 120 columns: no line is too long, no word is broken, and no sentence is cut off."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.unit.cli.test_cli_contract import every_command

from nqrust.cli import app
from nqrust.cli.__main__ import run

TREE = app.command()
PAGES = [(), *every_command(TREE)]
WIDTHS = (60, 80, 120)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(app, "command", lambda: TREE)

    def shown(path: tuple[str, ...], columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run([*path, "--help"]) == 0
        return capsys.readouterr().out

    return shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: " ".join(path) or "nqr")
def test_a_page_fits_its_width(path: tuple[str, ...], page: Any) -> None:
    words = {}
    for columns in WIDTHS:
        text = page(path, columns)
        too_long = [line for line in text.splitlines() if len(line) > columns]
        # The name of an option with its values cannot be shorter. It stands alone then.
        assert [line for line in too_long if not re.fullmatch(r"  --?\S+(?:,? \S+){0,3}", line)] == []
        assert columns < 80 or too_long == []
        words[columns] = text.split()
        assert [word for word in words[columns] if re.search(r"[a-z]\.\.\.$", word)] == []
    assert words[60] == words[80] == words[120], "a word is broken"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("vm create", "Usage: nqr vm create [OPTIONS] [NAME]"), ("vm rm", "Usage: nqr vm rm [OPTIONS] NAME..."),
        ("vm show", "Usage: nqr vm show [OPTIONS] NAME"), ("rotate", "Usage: nqr rotate [OPTIONS] [NAME]..."),
        ("vm snapshot create", "Usage: nqr vm snapshot create [OPTIONS] VM NAME"), ("logs", "Usage: nqr logs [OPTIONS] [NAME]"),
        ("completion", "Usage: nqr completion [OPTIONS] bash|zsh|fish"), ("vm", "Usage: nqr vm [OPTIONS] COMMAND [ARGS]..."),
    ],
)  # fmt: skip
def test_usage_is_written_as_in_manual_pages(path: str, line: str, page: Any) -> None:
    assert page(tuple(path.split()), 80).splitlines()[0] == line


def test_settings_stand_below_the_heading_of_their_kind(page: Any) -> None:
    text = page(("install",), 80)
    headings = [line[:-1] for line in text.splitlines() if re.fullmatch(r"[A-Z][a-z]+:", line)]
    assert headings[0] == "Options" and {"Network", "Database", "Agent", "Manager", "Folders"} <= set(headings)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("vm create", "Maximum wait in seconds (default: 180)."), ("vm create", "Start the VM (default: yes)."),
        ("vm exec", "in seconds since its start (default: 300)."), ("bundle build", "Output file or folder (default: the current folder)."),
        ("host token", "Lifetime of the token in seconds (default: 3600; 60 to 604800)."), ("release build", "New folder for the release (required)."),
        ("image import", "Add the guest agent to an ext4 image (default: yes)."), ("logs", "Number of lines (default: 100; of a VM, all)."),
    ],
)  # fmt: skip
def test_defaults_and_ranges_are_part_of_the_sentence(path: str, sentence: str, page: Any) -> None:
    assert sentence in " ".join(page(tuple(path.split()), 80).split())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: " ".join(path) or "nqr")
def test_a_page_has_one_form_of_defaults_and_arguments_come_first(path: tuple[str, ...], page: Any) -> None:
    text = page(path, 80)
    assert not re.search(r"\[(default|required|x)\b|<=x|x>=", text)
    assert "Arguments:" not in text or text.index("Arguments:") < text.index("Options:")
