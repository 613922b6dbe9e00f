"""Every error code that a user can meet is explained in docs/reference/error-codes.md, and nothing else is."""

from __future__ import annotations

import re

import pytest
from tests.architecture.tree import ROOT, below, text_of

FAMILIES = {"PRE", "DEP", "KVM", "NET", "DB", "REL", "CFG", "SUD", "SVC", "VER", "ENG", "USE", "API", "IMG", "VMM", "RHS"}
CODE = re.compile(r"\bNQR-[A-Z]{2,}-\d{3}\b")
DOCUMENT = ROOT / "docs" / "reference" / "error-codes.md"


def raised() -> set[str]:
    """Codes in the sources: Python, shell and templates."""
    sources = [*below("src"), *below("scripts/install", "scripts/packages")]
    return {code for path in sources for code in CODE.findall(text_of(path))}


def explained() -> dict[str, str]:
    """Code -> its entry: from the heading or table row that starts with it to the next one."""
    text = DOCUMENT.read_text()
    starts = list(re.finditer(r"^(?:#+\s*|\|\s*|[-*]\s*)?[`*]*(NQR-[A-Z]{2,}-\d{3})\b", text, re.MULTILINE))
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {match[1]: text[match.end() : end] for match, end in zip(starts, ends, strict=True)}


def test_codes_are_of_known_families() -> None:
    assert {code for code in raised() if code.split("-")[1] not in FAMILIES} == set()
    malformed = {
        found
        for path in [*below("src", suffix=".py"), *below("scripts/install", "scripts/packages")]
        for found in re.findall(rf"NQR-(?:{'|'.join(FAMILIES)})-(?:\d{{1,2}}|\d{{4,}})\b", text_of(path))
    }
    assert malformed == set(), "a code is NQR-, a family, three digits"


def test_every_code_is_explained_and_every_explanation_has_a_code() -> None:
    if not DOCUMENT.exists():
        pytest.skip("docs/reference/error-codes.md is not written yet")
    documented = explained()
    assert sorted(raised() - documented.keys()) == [], "not in docs/reference/error-codes.md"
    assert sorted(documented.keys() - raised()) == [], "explained, but nothing raises it"


def test_each_error_code_explanation_has_text() -> None:
    if not DOCUMENT.exists():
        pytest.skip("docs/reference/error-codes.md is not written yet")
    assert [code for code, entry in explained().items() if len(entry.strip(" |\n*`#:-")) < 30] == []


def test_each_error_code_has_one_meaning() -> None:
    """Installer, agent, manager and web UI share the numbering: the same code in two of them would be two meanings."""
    users: dict[str, set[str]] = {}
    for part in ("installer", "agent", "manager", "ui", "image"):
        for path in below(f"src/nqrust/{part}", suffix=".py"):
            for code in CODE.findall(text_of(path)):
                users.setdefault(code, set()).add(part)
    assert {code: sorted(parts) for code, parts in users.items() if len(parts) > 1} == {}
