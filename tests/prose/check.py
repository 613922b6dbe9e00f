"""The whole check: file -> the sentences of it that break a rule."""

from __future__ import annotations

from tests.places import ROOT
from tests.prose import comments, messages, pages, rules

seen = 0
"""Texts that were looked at."""


def everything() -> dict[str, list[rules.Fault]]:
    """All pages and all modules with texts that people read; an empty list for those that are clean."""
    global seen
    seen = 0
    found: dict[str, list[rules.Fault]] = {}
    documents = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for path in documents:
        file = str(path.relative_to(ROOT))
        said = list(pages.texts(path.read_text()))
        found[file] = [fault for line, text in said for fault in rules.faults(file, line, text, message=False)]
        seen += len(said)
    sources = sorted((ROOT / "src").rglob("*.py"))
    errors = messages.error_classes(sources)
    for path in sources:
        file = str(path.relative_to(ROOT))
        said = list(messages.texts(path, file, errors))
        if said:
            found[file] = [fault for line, text in said for fault in rules.faults(file, line, text, message=True)]
            seen += len(said)
    return found


def comments_of_everything() -> dict[str, list[rules.Fault]]:
    """Docstrings and comments of all modules; an empty list for modules that are clean."""
    return {
        file: [fault for line, text in comments.texts(path) for fault in rules.faults(file, line, text, message=False)]
        for path in sorted((ROOT / "src").rglob("*.py"))
        for file in [str(path.relative_to(ROOT))]
    }
