"""Records that go together: what an older one brought too is left to that one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nqrust.installer.engine.receipt import Entry
from nqrust.installer.engine.verb import UndoContext


def with_older(context: UndoContext, entry: Entry, going: Iterable[Entry]) -> UndoContext:
    """The context in which `entry` is reverted, where all of `going` are, newest first."""
    return replace(context, older=tuple(undo for other in going if other.seq < entry.seq for undo in other.undo))
