"""The order of release versions: `0.3.0`, `v0.4.2`, `0.5.0-rc.1`, `0.5.0rc1`, `0.5.0.dev1`, each with an optional `+BUILD`.

The order is that of Semantic Versioning 2.0.0, section 11, for any count of numbers. The forms of PEP 440 for versions before
a release count as pre-releases. `+BUILD` does not count: the bundled release names its sources there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(
    r"v?(?P<numbers>\d{1,9}(?:\.\d{1,9}){0,7})"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)|\.?(?P<short>dev|rc|a|b)(?P<count>\d{1,9}))?"
    r"(?:\+[0-9A-Za-z.-]+)?"
)
_LONGEST = 64  # characters
_SHORT = {"dev": "", "a": "alpha", "b": "beta", "rc": "rc"}  # "" comes before every other word
Part = tuple[int, int, str]


@dataclass(frozen=True, order=True)
class Version:
    """A version. Equal versions have the same precedence, not always the same text."""

    numbers: tuple[int, ...]
    final: bool
    pre: tuple[Part, ...]


def parse(text: str) -> Version | None:
    """Return the version, or None for a text in another form, which has no place in the order."""
    match = _FORM.fullmatch(text) if text.isascii() and len(text) <= _LONGEST else None
    if match is None:
        return None
    numbers = [int(number) for number in match["numbers"].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    if match["short"]:
        pre: tuple[Part, ...] = (_part(_SHORT[match["short"]]), _part(match["count"]))
    else:
        pre = tuple(_part(part) for part in match["pre"].split(".")) if match["pre"] else ()
    return Version(tuple(numbers), not pre, pre)


def _part(text: str) -> Part:
    """Numbers come before words. Numbers are in numerical order, words in that of ASCII."""
    return (0, int(text), "") if text.isdigit() else (1, 0, text)


def is_older(this: str, other: str) -> bool | None:
    """Return whether `this` precedes `other`, or None if they differ and one of them has no place in the order."""
    if this == other:
        return False
    first, second = parse(this), parse(other)
    return None if first is None or second is None else first < second


def in_address(name: str) -> str:
    """Return the version in a tag or a folder's name (`v0.4.2`, `release-0.4.2`), or "" for `latest` and the like."""
    match = re.search(r"v?\d+\.\d.*", name)
    return name if parse(name) else match[0] if match else ""
