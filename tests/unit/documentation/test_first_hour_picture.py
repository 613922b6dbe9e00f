"""The README's picture of the first hour shows what tests/hosts/test_first_hour.py types, in commands of this version."""

from __future__ import annotations

import html
import importlib.util
import inspect
import re

from tests.documentation import commands
from tests.hosts import test_first_hour as first_hour
from tests.places import ROOT

_SPEC = importlib.util.spec_from_file_location("draw_screens", ROOT / "scripts" / "draw_screens.py")
assert _SPEC is not None and _SPEC.loader is not None
draw_screens = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(draw_screens)

RECORDED = draw_screens.RECORDED.read_text()
TYPED = [line[2:] for line in RECORDED.splitlines() if line.startswith("$ ")]


def words(text: str) -> list[str]:
    return text.replace("\N{NO-BREAK SPACE}", " ").split()


def test_the_picture_says_what_was_recorded() -> None:
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", draw_screens.PICTURE.read_text())
    assert "first-hour.svg" in (ROOT / "README.md").read_text()
    shown = words(html.unescape(" ".join(drawn)))
    recorded = words(RECORDED)
    assert [word for word in shown if word in recorded][-len(recorded) :] == recorded


def test_the_test_types_the_commands_of_the_picture() -> None:
    source = inspect.getsource(first_hour).replace("{IMAGE}", first_hour.IMAGE)
    ours = [line for line in TYPED if line.startswith("nqr ")]
    assert len(ours) > 6 and [line for line in ours if f'"{line}"' not in source] == []


def test_the_commands_of_the_picture_exist() -> None:
    known = [found for line in TYPED if "exec" not in line and (found := commands.words_of(line))]
    assert len(known) > 6
    assert [wrong for wrong in (commands.problem(one, complete=True) for one in known) if wrong] == []
    for word in ("ready", "running", "index.html", "hello"):
        assert word in RECORDED
    assert "cdnjs" not in draw_screens.PICTURE.read_text()
    assert set(re.findall(r"(?<!\S)/\S*", RECORDED)) == {"/srv"}, "no path of the machine that recorded it"
