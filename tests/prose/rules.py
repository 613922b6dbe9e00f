"""Rules for plain English. Each takes one sentence and gives the names of the rules that it breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MESSAGE_WORDS = 25
PAGE_WORDS = 30
MESSAGE_COMMAS = 2

PHRASES = {
    r"of ours": "of nqr, or nqr's",
    r"an?other's": "somebody else's; belongs to another program",
    r"by (itself|themselves)": "automatically; alone",
    r"(is|are|was|were|be|been) cut off|cut-off": "interrupted",
    r"as (it|they) (was|were)": "unchanged; as before the install",
    r"shall": "must; will",
    r"(was|were|is|are) asked for by": "put the actor first: ANN created VM web1",
    r"says \{?X\}?": "put the actor first: ANN changed the limits",
    r"lived in": "in use",
    r"gone back": "rolled back",
    r"sees to it": "makes sure",
    r"a silent nothing": "ignored",
    r"in hand": "running; current",
    r"is to have": "will get",
    r"mend(s|ed)?": "fix",
    r"goes on": "continues",
    r"goes by": "uses; follows",
    r"anew": "again",
    r"so far as": "as far as",
    r"(?<!there )is no (file|folder|image|directory|disk|link|number)": "is not a ...",
    r"(tells|told|tell) (what|why|which|how|where|when)": "shows; reports",
    r"at most, a second": "limit per second",
    r"no longer asked for": "no longer in the settings",
    r"when it is so": "when the change is complete",
    r"whatever (is|it|they|was|ends|its)": "everything that; in every case",
}
"""Phrases (regular expressions, whole words, any case) and what to write instead."""

_PHRASES = [(re.compile(rf"(?<![\w-])(?:{phrase})(?![\w-])", re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]
_CLAUSE = re.compile(r"(?:What|Who|Whoever|Whatever|Whose)\b(?!')")
_CODE = re.compile(r"`[^`]*`")
_WORD = re.compile(r"[\w'/.-]*\w[\w'/.-]*")
_FULL_STOP = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`“‹]|nqr )|(?<=[:!?])\s+")
_NO_END = re.compile(r"\b(e\.g|i\.e|etc|vs)\.$")


@dataclass(frozen=True)
class Fault:
    """A sentence and the rule that it breaks, where it stands."""

    file: str
    line: int
    rule: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}\n    {self.sentence}"


def sentences(text: str) -> Iterator[str]:
    """Sentences of a text. A colon ends one, so that a list after it counts for itself; a placeholder is one word."""
    rest = ""
    for part in _FULL_STOP.split(" ".join(text.split())):
        rest = f"{rest} {part}".strip()
        if not _NO_END.search(rest):
            yield rest
            rest = ""
    if rest:
        yield rest


def broken(sentence: str, *, message: bool) -> Iterator[str]:
    """Rules that the sentence breaks."""
    plain = _CODE.sub("X", sentence)
    most = MESSAGE_WORDS if message else PAGE_WORDS
    words = len(_WORD.findall(plain))
    if words > most:
        yield f"{words} words, at most {most}"
    if message and plain.count(",") > MESSAGE_COMMAS and plain[-1:] in ".?!:;":
        yield f"{plain.count(',')} commas in a message, at most {MESSAGE_COMMAS}"
    if _CLAUSE.match(plain) and not plain.endswith("?") and words > 4:
        yield "a noun clause as subject: begin with the actor"
    for phrase, instead in _PHRASES:
        if found := phrase.search(plain):
            yield f"“{found[0]}”: write {instead}"


def faults(file: str, line: int, text: str, *, message: bool) -> Iterator[Fault]:
    for sentence in sentences(text):
        for rule in broken(sentence, message=message):
            yield Fault(file, line, rule, sentence)
