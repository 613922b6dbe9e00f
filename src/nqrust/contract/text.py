"""Text of strangers (guests, other hosts) that is written down and shown to people."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` without what a terminal obeys and a database refuses: NUL, escape sequences, half characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
