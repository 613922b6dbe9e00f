"""The documentation matches the program: every code, every setting, every link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.places import ROOT

from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS
from nqrust.installer.settings.record import value_of
from nqrust.installer.settings.sources import gather
from nqrust.installer.settings.yaml_file import parse

DOCS = ROOT / "docs"
CODE = re.compile(r"NQR-[A-Z]+-\d{3}")


def codes_in_use() -> set[str]:
    files = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "scripts").rglob("*.sh"),
        *(ROOT / "scripts").rglob("*.py"),
    ]
    return {code for file in files for code in CODE.findall(file.read_text())}


def test_every_code_has_an_entry_with_what_and_cure() -> None:
    text = (DOCS / "reference" / "error-codes.md").read_text()
    entries = dict(re.findall(r"^### (NQR-[A-Z]+-\d{3})\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert codes_in_use() - entries.keys() == set()
    assert [code for code, body in entries.items() if "**What.**" not in body or "**Cure.**" not in body] == []
    assert len(entries) == text.count("### NQR-")


def test_every_setting_is_in_the_table_as_it_is() -> None:
    text = (DOCS / "reference" / "settings.md").read_text()
    defaults = Settings()
    for option in OPTIONS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{option.name}` |")]
        value = value_of(defaults, option.name)
        shown = "–" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"
        assert f"| {shown} |" in row
        for word in (option.flag, option.off, *option.variables, *option.choices):
            assert f"`{word}`" in row or not word
    for flag in RUN_FLAGS:
        assert f"`{flag.flag}`" in text and f"`{flag.variable}`" in text


def test_the_example_file_is_valid() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "reference" / "settings.md").read_text(), re.S)
    example = example.replace("  password_file: /root/db-password\n", "")
    assert gather(flags={}, environ={}, config=parse(example.encode(), "example.yaml")).settings.database.port == 5432


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists() and not link.endswith(".svg")] == []
