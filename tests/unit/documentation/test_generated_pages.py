"""The pages that come from the program are those that scripts/make_docs.py writes now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.places import ROOT

_SPEC = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
assert _SPEC is not None and _SPEC.loader is not None
make_docs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_docs)


@pytest.mark.parametrize("page", make_docs.pages(), ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    assert page.read_text() == make_docs.pages()[page], "run .venv/bin/python scripts/make_docs.py"


def test_every_command_has_a_section_with_its_options() -> None:
    text = make_docs.cli()
    listed = (ROOT / "tests" / "golden" / "cli" / "commands.txt").read_text().splitlines()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [f"## nqr {words}" for words in listed]
    assert "| `--ssh-key` `KEY\\|FILE` |" in text and "Required." in text
