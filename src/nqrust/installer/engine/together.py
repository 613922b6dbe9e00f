"""Records that are reverted together: a thing that an older record brought too is left to that record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.verb import UndoContext


def with_older(context: UndoContext, entry: Entry, going: Iterable[Entry]) -> UndoContext:
    """Return the context for reverting `entry` when all of `going` are reverted, newest first."""
    return replace(context, older=tuple(undo for other in going if other.seq < entry.seq for undo in other.undo))
