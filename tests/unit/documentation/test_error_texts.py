"""The search finds an error's texts in every form that the source uses."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest
from tests.places import ROOT

_SPEC = importlib.util.spec_from_file_location("error_texts", ROOT / "scripts" / "error_texts.py")
assert _SPEC is not None and _SPEC.loader is not None
error_texts = importlib.util.module_from_spec(_SPEC)
sys.modules["error_texts"] = error_texts  # its dataclasses look their module up
_SPEC.loader.exec_module(error_texts)

CLASSES = """
class Conflict(Exception):
    code, cure = "NQR-API-105", "Choose another name."
    def __init__(self, detail, *, cure=None, code=None): ...
class Throttled(Conflict):
    code = "NQR-API-106"
    def __init__(self, seconds):
        super().__init__("Too many.", cure=f"Wait {seconds} s.")
"""
FORMS = {
    "literal": ('raise E("NQR-USE-001", "No.", "Yes.")', {("NQR-USE-001", "No.", "Yes.")}),
    "values": ('raise E("NQR-USE-001", f"No {a.error}: {b}.", "Yes" + ".")', {("NQR-USE-001", "No ‹reason›: ‹b›.", "Yes.")}),
    "constant": ('CURE = "Yes."\nraise E("NQR-USE-001", "No.", CURE)', {("NQR-USE-001", "No.", "Yes.")}),
    "constant in a text": ('NAME = "n"\nraise E("NQR-USE-001", f"No {NAME}.", "Yes.")', {("NQR-USE-001", "No n.", "Yes.")}),
    "code as a constant": ('CODE = "NQR-USE-001"\nraise E(CODE, "No.", "Yes.")', {("NQR-USE-001", "No.", "Yes.")}),
    "choice": (
        'raise E("NQR-USE-001", "No." if x else "Never.", "Yes.")',
        {("NQR-USE-001", "No.", "Yes."), ("NQR-USE-001", "Never.", "Yes.")},
    ),
    "variable of the branch": (
        """
        def f(x):
            what = "No."
            if x:
                what = "Never."
                raise E("NQR-USE-001", what, "Yes.")
            return E("NQR-USE-002", what, "Yes.")
        """,
        {("NQR-USE-001", "Never.", "Yes."), ("NQR-USE-002", "No.", "Yes.")},
    ),
    "argument of a function": (
        """
        def f(what, cure="Yes."):
            return E("NQR-USE-001", f"It failed: {what}.", cure)
        f("it is full")
        f("it is away", "Wait.")
        """,
        {("NQR-USE-001", "It failed: it is full.", "Yes."), ("NQR-USE-001", "It failed: it is away.", "Wait.")},
    ),
    "computed or else literal": ('raise E("NQR-USE-001", "No.", near() or "Yes.")', {("NQR-USE-001", "No.", "Yes.")}),
    "computed": ('raise E("NQR-USE-001", str(error), "Yes.")', {("NQR-USE-001", None, "Yes.")}),
    "no cure": ('yield info("NQR-PRE-001", "Well.")', {("NQR-PRE-001", "Well.", None)}),
    "notice": ('emit(Notice("error", "No.", "NQR-ENG-001", "Yes."))', {("NQR-ENG-001", "No.", "Yes.")}),
    "proof": ('yield Hop("name", "NQR-VER-001", "Yes.", prove)', {("NQR-VER-001", None, "Yes.")}),
    "class": (CLASSES + 'raise Conflict("Taken.")', {("NQR-API-105", "Taken.", "Choose another name.")}),
    "class with a code of its own": (
        CLASSES + 'raise Conflict("Taken.", cure="Wait.", code="NQR-API-111")',
        {("NQR-API-111", "Taken.", "Wait.")},
    ),
}


def found(text: str, folder: Path) -> set[tuple[str, str | None, str | None]]:
    (folder / "sample.py").write_text(textwrap.dedent(text))
    entries = error_texts.Source(folder).entries()
    return {(code, entry.what, entry.cure) for code, entry in entries if code != "NQR-API-106"}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_an_error_is_understood(form: str, tmp_path: Path) -> None:
    text, expected = FORMS[form]
    assert found(text, tmp_path) == expected


def test_class_that_words_itself(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(CLASSES + "raise Throttled(3)\n")
    entries = list(error_texts.Source(tmp_path).entries())
    assert entries == [("NQR-API-106", error_texts.Entry("Too many.", "Wait ‹seconds› s."))]


def test_argument_from_another_file(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text('def made(why):\n    return E("NQR-USE-001", f"No: {why}.", "Yes.")\n')
    (tmp_path / "user.py").write_text('from made import made\nraise made("it is full")\n')
    assert list(error_texts.Source(tmp_path).entries()) == [("NQR-USE-001", error_texts.Entry("No: it is full.", "Yes."))]


def test_shell_errors() -> None:
    script = 'HOME=/var/x # a note\nfail NQR-DEP-901 3 "No $HOME or ${other}." \\\n    "Run \\`it\\`."\n'
    assert list(error_texts.of_shell(script)) == [("NQR-DEP-901", error_texts.Entry("No /var/x or ‹other›.", "Run `it`."))]
