"""Text from guests and other hosts that is stored and shown to people."""

from __future__ import annotations


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
