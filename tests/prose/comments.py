"""Docstrings and comments of a module, each with its line."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

_DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|mypy:|pragma|!)|#!")
_LITERAL = re.compile(r"::\n(?:\n|[ \t]+.*\n?)+")
_BREAK = re.compile(r"\n\s*\n|\n(?=\s*[-*] |\s*`[^`]+`(?: \|[^:]*)?:)")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each paragraph of a docstring and of each block of comments."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            said = _LITERAL.sub("\n\n", node.value.value)
            yield from ((node.lineno, part) for part in _BREAK.split(said) if not _drawing(part))
    yield from _comments(source)


def _drawing(part: str) -> bool:
    """Whether it is a table, a picture or a list of addresses, which no sentence rule fits."""
    return not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", part) or re.search(r"\S {3,}\S| · |[│├└─]", part) is not None


def _comments(source: str) -> Iterator[tuple[int, str]]:
    began, last, block = 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        row, alone = token.start[0], not token.line[: token.start[1]].strip()
        if not block or not alone or row != last + 1:
            if block:
                yield began, block
            began, block = row, ""
        block = f"{block} {token.string.lstrip('# ')}".strip()
        last = row if alone else -1
    if block:
        yield began, block
