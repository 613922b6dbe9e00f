"""Files that are not rewritten yet. The list only shrinks: a file that is clean must leave it."""

from __future__ import annotations

NOT_REWRITTEN: tuple[str, ...] = ()
