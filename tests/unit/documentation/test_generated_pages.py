"""The generated pages match the present output of scripts/make_docs.py."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.installer.distro import registry

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
    assert "| `--ssh-key` `KEY\\|FILE` |" in text and "(required)." in text


def test_the_page_of_error_codes_has_the_texts_of_the_source() -> None:
    """The page keeps no text that the source changed or does not have, and lacks none that it has."""
    page = (ROOT / "docs" / "reference" / "error-codes.md").read_text()
    cure = "Use an x86_64 machine."
    assert page.count(cure) == 1
    assert make_docs.with_errors(page.replace(cure, "Use another machine.")) == page
    stale = "### NQR-PRE-002\n\n**What.** An old system.\n\n**Cure.** Use Slackware.\n"
    assert f"**Cure.** {registry.advice()}\n" in make_docs.with_errors(stale)
    only = "### NQR-PRE-003\n\n"
    assert "‹machine›; x86_64 is needed." in make_docs.with_errors(only)
    by_hand = "### NQR-API-199\n\n**What.** Made elsewhere.\n\n**Cure.** None.\n"
    assert make_docs.with_errors(by_hand) == by_hand
    half = "### NQR-VER-005\n\n**What.** Made elsewhere.\n\n**Cure.** None.\n"
    assert "**What.** Made elsewhere.\n\n**Cure.** Look at `nqr logs dhcp`.\n" in make_docs.with_errors(half)


UNWORDED = {
    "NQR-API-109": "the framework's answer to a method that a path does not have",
    "NQR-API-113": "the framework's answer to any other request that it refuses",
    "NQR-API-199": "an answer of something that is not the manager",
    "NQR-PRE-002": "description and cure come from the table of distributions",
}
"""Codes whose texts the program makes while it runs."""


def test_the_page_is_compared_with_the_source_for_every_other_code() -> None:
    page = (ROOT / "docs" / "reference" / "error-codes.md").read_text()
    worded = {code for code, entries in make_docs.spelled_out().items() if all(one.what or one.cure for one in entries)}
    assert set(re.findall(r"^### (NQR-\S+)", page, re.MULTILINE)) - worded == set(UNWORDED)


def test_a_value_of_a_message_may_have_any_name_in_the_page() -> None:
    page = "### NQR-PRE-003\n\n**What.** This machine is ‹arm64, say›; x86_64 is needed.\n\n**Cure.** Use an x86_64 machine.\n"
    assert make_docs.with_errors(page) == page
