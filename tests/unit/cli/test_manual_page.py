"""`nqr man`: every command and option is in the page. tests/live/cli gives it to a formatter."""

from __future__ import annotations

from typing import Any

import pytest

from nqrust.cli import app, manual
from nqrust.cli.__main__ import run

TREE = app.command()
PAGE = manual.render(TREE)


def commands(node: Any, path: str = "nqr") -> Any:
    for name, inner in node.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{path} {name}")
        else:
            yield f"{path} {name}", inner


def test_every_command_and_option_is_in_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man"]) == 0 and capsys.readouterr().out == PAGE
    sections = {part.partition(r"\fR")[0].replace("\\-", "-"): part for part in PAGE.split(r".SS \fB")[1:]}
    assert sections.keys() == {path for path, _ in commands(TREE)}
    for path, command in commands(TREE):
        for parameter in command.params:
            assert (
                parameter.name == "help"
                or (parameter.opts[-1] if parameter.opts[0].startswith("-") else parameter.metavar).replace("-", "\\-")
                in sections[path]
            ), (path, parameter.name)


@pytest.mark.parametrize(("text", "roff"), [(".x", r"\&.x"), ("'x", r"\&'x"), ("a\\b", r"a\eb"), ("a-b", r"a\-b"), (None, "")])
def test_text_is_taken_literally(text: str | None, roff: str) -> None:
    assert manual._text(text) == roff
