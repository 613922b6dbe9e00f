"""Text of strangers (guests, other hosts) that is written down and shown to people."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` without what a terminal obeys and a database refuses: NUL, escape sequences, half characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """`text`, when it is a line that no other line can hide in: what programs read line by line is made of such.

    Raises ValueError for a control character or a line separator."""
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that no line may have")
    return text
