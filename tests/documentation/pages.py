"""The README and the pages in docs/, taken apart: fenced blocks with their markers, inline code, and claims in prose.

A fenced block of shell commands is run on a host by tests/hosts/test_documented.py, unless a comment right before the fence
says otherwise. Such comments do not show in rendered Markdown:

    <!-- not run: WHY -->                none of the block
    <!-- not run: `COMMAND`: WHY -->     the lines that begin with COMMAND; may be repeated
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.places import ROOT

SHELL = frozenset({"bash", "sh", "shell", "console"})
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)
_MARKER = re.compile(r"<!-- not run: (?:`([^`]+)`: )?(.+?) -->\n*\Z")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Marker:
    """A command (or, with none named, a block) that no host test runs."""

    command: str
    why: str


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the heading it stands under, its language and its text."""

    page: str
    heading: str
    language: str
    text: str
    line: int
    markers: tuple[Marker, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The commands, without comments."""
        whole = self.text.replace("\\\n", " ").splitlines()
        return tuple(found for line in whole if (found := _uncommented(line)))

    def marker(self, line: str) -> Marker | None:
        """The one that says why this line is not run."""
        return next((m for m in self.markers if line.startswith(m.command)), None)

    @property
    def to_run(self) -> tuple[str, ...]:
        return tuple(line for line in self.lines if not self.marker(line))


def _uncommented(line: str) -> str:
    return re.sub(r"(^|\s+)#.*$", "", line).strip()


def pages(*, records: bool = False) -> tuple[str, ...]:
    """The README and the pages in docs/, from the root of the repository; with `records` also the decisions in docs/adr."""
    docs = ROOT / "docs"
    found = [ROOT / "README.md", *(page for page in sorted(docs.rglob("*.md")) if records or page.parent != docs / "adr")]
    return tuple(str(path.relative_to(ROOT)) for path in found)


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str) -> tuple[Block, ...]:
    return tuple(_blocks(page))


def _blocks(page: str) -> Iterator[Block]:
    whole = text(page)
    for fence in _FENCE.finditer(whole):
        before, markers = whole[: fence.start()], []
        while match := _MARKER.search(before):
            markers.append(Marker(match[1] or "", match[2]))
            before = before[: match.start()]
        heading = _HEADING.findall(_FENCE.sub("", before))[-1]
        line = whole.count("\n", 0, fence.start()) + 1
        yield Block(page, heading, fence[1], fence[2], line, tuple(reversed(markers)))


def block(page: str, heading: str, number: int = 1) -> Block:
    """The first block of shell commands under a heading, or a later one by its number."""
    return [one for one in blocks(page) if one.heading == heading and one.language in SHELL][number - 1]


def inline(page: str) -> tuple[str, ...]:
    """Code within sentences and tables."""
    return tuple(_INLINE.findall(_FENCE.sub("", text(page))))


def prose(page: str) -> str:
    """The page without any code."""
    return _INLINE.sub("", _FENCE.sub("", text(page)))


def claims(page: str) -> tuple[str, ...]:
    """What a page says, piece by piece: each bullet, each row of a table but its head, and each sentence of a paragraph."""
    found: list[str] = []
    for chunk in re.split(r"\n{2,}", re.sub(r"<!--.*?-->\n?", "", _FENCE.sub("", text(page)), flags=re.S)):
        if chunk.startswith(("#", "!")):
            continue
        if chunk.startswith("|"):
            found += list(chunk.splitlines()[2:])
            continue
        for piece in re.split(r"\n(?=\s*(?:- |\d+\. ))", chunk):
            piece = piece.strip()
            found += [piece] if re.match(r"- |\d+\. ", piece) else sentences(piece)
    return tuple(found)


def sentences(paragraph: str) -> list[str]:
    """Ends at a full stop before a capital letter, so that `e.g. this` and file names stay whole."""
    return [one.strip() for one in re.split(r"(?<=[.!?:])\s+(?=[A-Z`“])", paragraph) if one.strip()]
