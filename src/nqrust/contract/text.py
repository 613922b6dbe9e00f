"""Text from guests and other hosts that is stored and shown to people."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""A text without control characters."""
LONGEST_SHOWN = 4096
LONGEST_NAME = 255
_FAULTS = (
    (r"String should have at least 1 character", "it must not be empty"),
    (r"String should have at least (\d+) characters", r"it must have at least \1 characters"),
    (r"String should have at most (\d+) characters?", r"it must have at most \1 characters"),
    (r"String should match pattern .*", "it does not have the right form"),
    (r"Input should be greater than or equal to (\S+)", r"it must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"it must be at most \1"),
    (r"Input should be a valid integer.*", "it must be a whole number"),
    (r"Input should be a valid number.*", "it must be a number"),
    (r"Input should be a valid string", "it must be text"),
    (r"Input should be a valid boolean.*", "it must be true or false"),
)
"""Messages of pydantic -> words for people."""
_ONE_LINE = str.maketrans("\n\t", "  ")
_WORD = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._:/+@=-]*")


def plain(text: str) -> str:
    """Return `text` without characters that terminals execute and databases refuse: NUL, escape sequences, surrogates."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """Return `text` if it is a single line, for files that programs read line by line.

    Raises ValueError for a control character or a line separator.
    """
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that no line may have")
    return text


def shown(text: str) -> str:
    """Return `text` for people: `plain`, and cut to the length that a message may have."""
    return plain(text[:LONGEST_SHOWN])


def named(text: str) -> str:
    """Return the name of a thing for people: `plain`, and cut to the length of names."""
    return plain(text[:LONGEST_NAME])


def argument(text: str) -> str:
    """Return the name of a thing as one word of a shell, for a command that people paste."""
    return shlex.quote(shown_in_line(text))


def shown_in_line(text: str) -> str:
    """Return `text` for people within a line: `plain`, and without line breaks and tabs."""
    return plain(text).translate(_ONE_LINE)


def word(text: str) -> str:
    """`text`, when it is one word of a line for ip-batch, iptables-restore or dnsmasq, and neither an option nor two fields.

    Raises ValueError for a blank, a comma, a quote, a leading dash, or anything that `one_line` refuses."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"{text!r} is not one plain word")
    return text


def fault(message: object) -> str:
    """Return what pydantic says of a value, in words for people: no pattern, and not the prefixes of validators."""
    said = str(message).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for pattern, words in _FAULTS:
        found = re.fullmatch(pattern, said, re.DOTALL)
        if found:
            return found.expand(words)
    return said


def first_fault(errors: Sequence[Any]) -> tuple[str, str]:
    """Return where the first of pydantic's errors is, such as `volumes.0.size_mib`, and what it says."""
    first = errors[0] if errors else {"loc": (), "msg": "invalid"}
    return ".".join(str(part) for part in first["loc"]), fault(first["msg"])


def joined(*words: str) -> str:
    """A line of these words. Raises ValueError where it would have another line or more words."""
    line = one_line(" ".join(words))
    if line.split() != list(words) or set(line) & set("\"'\\`#;"):
        raise ValueError(f"{line!r} is not a line of {len(words)} words")
    return line
