"""Prose of a Markdown page, piece by piece, each with its line: paragraphs, bullets and cells of tables, without code."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_BULLET = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
_RULE = re.compile(r"[\s|:-]*")


def texts(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each piece."""
    for pattern in (_FENCE, _COMMENT):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    began, piece = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        alone = not line.strip() or line.startswith(("#", "|"))
        if piece and (alone or _BULLET.match(line)):
            yield began, _plain(piece)
            piece = ""
        if line.startswith("|") and not _RULE.fullmatch(line):
            yield from ((number, _plain(cell)) for cell in line.strip("| ").split(" | "))
        elif not alone:
            began = began if piece else number
            piece = f"{piece} {_BULLET.sub('', line) if not piece else line}".strip()


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", text).replace("**What.** ", "").replace("**Cure.** ", "").replace("**Why.** ", "").replace("*", "")
